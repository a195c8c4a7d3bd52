//! Every format is read back and evaluated.

use minimax_coeffs::chain::Chain;
use minimax_coeffs::compose::PUBLISHED_ETA;
use minimax_coeffs::export::{ExportError, Format};
use minimax_coeffs::table_file::TableFileError;
use minimax_coeffs::{Alpha, CompositeSign, Generated, TableFile, Target};

fn record(alpha: u8, degrees: &[usize]) -> minimax_coeffs::table_file::Record {
    CompositeSign::generate(Target::Relu { alpha }, degrees, 1e-6).unwrap().record().unwrap()
}

#[test]
fn every_format_holds_the_same_numbers() {
    for table in [record(4, &[3]), record(10, &[7, 7, 13]), record(14, &[15, 27, 29])] {
        let expected: Vec<Vec<f64>> = table.components.iter().map(|c| c.chebyshev.clone()).collect();
        for format in Format::ALL {
            // Rendering reads back and evaluates by itself.
            let text = format.render(std::slice::from_ref(&table)).unwrap();
            assert_eq!(format.read(&text).unwrap(), expected, "{format}");
            assert!(text.ends_with('\n') && !text.contains("NaN") && !text.contains("inf"), "{format}");
        }
    }
}

#[test]
fn scaled_components_stay_in_the_range_of_chebyshev_polynomials() {
    for alpha in Alpha::all().filter(|alpha| alpha.bits() >= 6) {
        let table = Generated::published(alpha).unwrap().record().unwrap();
        let sign = CompositeSign::published(alpha);
        for i in -1000..=1000 {
            let mut z = f64::from(i) / 1000.0;
            let exact = sign.eval(z);
            for (k, component) in table.components.iter().enumerate() {
                z = minimax_coeffs::chain::clenshaw(&component.chebyshev, z);
                assert!(
                    z.abs() <= 1.0 - PUBLISHED_ETA / 3.0 || k + 1 == table.components.len(),
                    "alpha {alpha}: {z}"
                );
            }
            // The composition in the power basis loses up to 2e-8 in float64.
            assert!((z - exact).abs() < 2e-8, "alpha {alpha}: {z} {exact}");
        }
    }
}

#[test]
fn the_committed_chain_is_the_one_of_its_table_and_float64_comes_close() {
    let file = TableFile::parse(include_str!("../tables/published.json")).unwrap();
    assert_eq!(file.tables.len(), Alpha::all().count());
    for (alpha, record) in Alpha::all().zip(&file.tables) {
        let table = Generated::published(alpha).unwrap().table;
        let chain = Chain::new(&table, record.eta).unwrap();
        let in_float64 = Chain::of_sign(CompositeSign::published(alpha), record.eta);
        for (i, component) in record.components.iter().enumerate() {
            assert_eq!(chain.components[i], component.chebyshev, "alpha {alpha}");
            assert_eq!(chain.radii[i], component.radius, "alpha {alpha}");
            assert!((in_float64.radii[i] - component.radius).abs() < 1e-12, "alpha {alpha}");
            for (c, exact) in in_float64.components[i].iter().zip(&component.chebyshev) {
                // What the power basis of alpha 14 loses in float64.
                assert!((c - exact).abs() < 1e-6, "alpha {alpha}: {c}, {exact}");
            }
        }
    }
}

#[test]
fn a_file_is_read_as_it_was_written() {
    let tables = vec![record(10, &[7, 7, 13]), record(7, &[7, 7])];
    let text = TableFile::new(tables.clone()).to_json();
    let file = TableFile::parse(&text).unwrap();
    assert_eq!(file.tables, tables);
    assert_eq!(file.alphas(), [7, 10]);
    let sign = file.relu(10).unwrap().composite().unwrap();
    assert_eq!(sign.degrees(), [7, 7, 13]);
    assert!(file.relu(11).is_none());
    assert!((sign.relu(0.3, 1.0) - 0.3).abs() < 2f64.powi(-10));
}

#[test]
fn damaged_files_are_refused_with_the_reason() {
    let good = TableFile::new(vec![record(7, &[7, 7])]).to_json();
    let cases = [
        ("", "not a file of tables: EOF"),
        ("{}", "not a file of tables: missing field `format`"),
        (&good.replace("composite minimax sign", "x"), "the file is `x` version 1, but"),
        (
            &good.replace("\"version\": 1", "\"version\": 2"),
            "version 2, but `composite minimax sign` version 1",
        ),
        (&good[..good.len() / 2], "not a file of tables: EOF"),
        (&TableFile::new(vec![]).to_json(), "the file holds no table"),
    ];
    for (text, expected) in cases {
        let error: TableFileError = TableFile::parse(text).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let damage = |change: &dyn Fn(&mut minimax_coeffs::table_file::Record)| {
        let mut table = record(7, &[7, 7]);
        change(&mut table);
        TableFile::parse(&TableFile::new(vec![table]).to_json()).unwrap_err().to_string()
    };
    for (error, expected) in [
        (damage(&|t| t.degrees[0] = 8), "table 1: degree 8 calls for 4 odd coefficients, there are 4"),
        (damage(&|t| t.degrees[0] = 9), "table 1: degree 9 calls for 5 odd coefficients, there are 4"),
        (damage(&|t| t.degrees.push(7)), "table 1: 3 degrees, but 2 components"),
        (damage(&|t| t.components[1].power[2] = "1,5".into()), "table 1: `1,5` is not a decimal number"),
        (damage(&|t| t.components[1].power[2] = "1e999".into()), "table 1: `1e999` is too large"),
    ] {
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn what_does_not_hold_is_not_exported() {
    let table = record(7, &[7, 7]);
    let error = Format::OpenFhe.render(&[table.clone(), table.clone()]).unwrap_err();
    assert_eq!(error.to_string(), "the format openfhe holds one table, not 2");
    let error = "seal".parse::<Format>().unwrap_err().to_string();
    assert_eq!(
        error,
        "there is no format `seal`; known are: json, openfhe, lattigo, heir, poulpy, numpy, desilo"
    );
    for format in Format::ALL {
        assert_eq!(format.name().parse::<Format>().unwrap(), format);
        let mut wrong = table.clone();
        wrong.components[0].chebyshev[3] += 1e-3;
        let error = format.render(&[wrong]).unwrap_err();
        assert!(matches!(error, ExportError::Inexact { .. }), "{error}");
        let mut wrong = table.clone();
        wrong.components[0].chebyshev[3] = f64::NAN;
        assert!(format.render(&[wrong]).is_err(), "{format}");
    }
    assert!(
        Format::NumPy
            .read("SIGN_COMPONENTS = [[1, x]]")
            .unwrap_err()
            .to_string()
            .contains("`x` is no number")
    );
    assert!(Format::NumPy.read("nothing").unwrap_err().to_string().contains("there is no list"));
    assert!(
        Format::NumPy.read("SIGN_COMPONENTS = [[1, 2]").unwrap_err().to_string().contains("does not end")
    );
}

#[test]
fn float32_errors_are_those_of_the_published_tables() {
    // docs/numerics.md promises 2^-alpha / 16; at alpha 14 both forms reach about half of it.
    let table = Generated::published(Alpha::MAX).unwrap().record().unwrap();
    let promised = Alpha::MAX.epsilon() / 16.0;
    for error in [table.float32.nested, table.float32.chebyshev] {
        assert!((1e-6..promised).contains(&error), "{:?}", table.float32);
    }
}
