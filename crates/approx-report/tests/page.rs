//! The page and the pictures: well formed, complete, and nothing is fetched.

mod support;

use std::collections::BTreeSet;
use std::fs;

use approx_report::{NetworkData, SweepData, page, palette, plots};
use roxmltree::{Document, Node, ParsingOptions};

use support::{MARKUP, data};

const ALL: [(&str, &str); 3] = [("cifar10", "resnet110"), ("cifar10", "vgg11bn"), ("imagenet", "googlenet")];

fn parse(page: &str) -> Document<'_> {
    // Of HTML's document type nothing is used.
    Document::parse_with_options(page, ParsingOptions { allow_dtd: true, ..ParsingOptions::default() })
        .unwrap()
}

/// All text of an element, with spaces for those at which a line does not break.
fn text(node: Node) -> String {
    let all: String = node.descendants().filter(Node::is_text).filter_map(|node| node.text()).collect();
    all.replace('\u{a0}', " ")
}

/// The texts of all elements with a tag.
fn texts(page: &Document, tag: &str) -> Vec<String> {
    let named = page.descendants().filter(|node| node.is_element() && node.tag_name().name() == tag);
    named.map(|node| text(node).trim().to_owned()).collect()
}

/// What a browser would fetch or run.
fn assert_self_contained(page: &str) {
    let parsed = parse(page);
    for node in parsed.descendants().filter(Node::is_element) {
        let tag = node.tag_name().name();
        assert!(
            !["script", "link", "img", "iframe", "object", "embed", "base", "use", "image"].contains(&tag),
            "{tag}"
        );
        for attribute in node.attributes() {
            let (name, value) = (attribute.name(), attribute.value());
            assert!(!name.starts_with("on") && name != "src" && name != "style", "{tag} {name}={value}");
            assert!(name != "href" || value.starts_with('#'), "{tag} {name}={value}");
            assert!(!value.contains("://") && !value.contains("url("), "{tag} {name}={value}");
        }
        if tag == "style" {
            let css = text(node);
            assert!(!css.contains("@import") && !css.contains("url(") && !css.contains("://"), "{css}");
        }
    }
    let ids: Vec<_> = parsed.descendants().filter_map(|node| node.attribute("id")).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:?}");
    for link in parsed.descendants().filter_map(|node| node.attribute("href")) {
        assert!(ids.contains(&&link[1..]), "{link}");
    }
}

#[test]
fn the_page_is_one_file_without_scripts() {
    for networks in [&ALL[..1], &ALL[1..2], &ALL] {
        let page = page::html(&data(networks)).unwrap();
        assert_self_contained(&page);
        for part in ["http:", "https:", "src=x>", "<img"] {
            assert!(!page.contains(part), "{part}");
        }
        assert!(page.contains("name=\"viewport\"") && page.contains("prefers-color-scheme:dark"));
    }
}

#[test]
fn nothing_that_was_given_is_markup() {
    let page = page::html(&data(&ALL)).unwrap();
    let parsed = parse(&page);
    let whole = text(parsed.root_element());
    // Command, weights (twice each), the policy, the reason of each network.
    assert_eq!(whole.matches(MARKUP).count(), 1 + 2 * 3 + 1 + 3);
    assert_eq!(texts(&parsed, "pre"), [format!("infer sweep cifar10 '{MARKUP}'")]);
}

#[test]
fn every_number_of_every_row_is_in_the_table() {
    let data = data(&ALL);
    let page = page::html(&data).unwrap();
    let parsed = parse(&page);
    for network in &data.networks {
        let section =
            parsed.descendants().find(|node| node.attribute("id") == Some(&network.backbone)).unwrap();
        let table = section.descendants().find(|node| node.has_tag_name("tbody")).unwrap();
        let lines: Vec<Vec<String>> = table
            .children()
            .filter(|row| row.has_tag_name("tr"))
            .map(|row| row.children().map(text).collect())
            .collect();
        assert_eq!(lines.len(), network.rows.len());
        let with_commas = |number: u32| {
            let (thousands, rest) = (number / 1000, number % 1000);
            if thousands > 0 { format!("{thousands},{rest:03}") } else { number.to_string() }
        };
        for (row, line) in network.rows.iter().zip(&lines) {
            let degrees: Vec<String> = row.degrees.iter().map(usize::to_string).collect();
            let mut expected = vec![
                row.alpha.to_string(),
                degrees.join(", "),
                row.relu_depth.to_string(),
                row.relu_multiplications.to_string(),
                row.network_depth.map_or("–".to_owned(), with_commas),
                with_commas(row.network_multiplications),
            ];
            match (&row.unusable, row.accuracy, row.relative_difference, row.agreement) {
                (Some(reason), ..) => expected.push(reason.clone()),
                (None, Some(accuracy), Some(relative), Some(agreement)) => expected.extend([
                    "35".to_owned(),
                    row.b_max.map_or("–".to_owned(), |_| "20.123".to_owned()),
                    format!("{:.2} %", 100.0 * accuracy),
                    format!("{:+.2} %", 100.0 * relative).replace('-', "−"),
                    format!("{:.2} %", 100.0 * agreement),
                    row.max_abs_logit_difference.map_or("not finite".to_owned(), |d| format!("{d:.3}")),
                    "876.5".to_owned(),
                ]),
                _ => unreachable!(),
            }
            assert_eq!(line, &expected);
        }
        let exact = format!("{:.2} %", 100.0 * network.exact_accuracy().unwrap());
        assert!(text(section).contains(&format!("The exact network gets {exact} right")));
        assert!(text(section).contains("10,000 images of ") && text(section).contains("at 1234.6 images/s"));
        for site in &network.sites {
            assert!(text(section).contains(&site.name), "{}", site.name);
        }
        assert_eq!(text(section).contains("the simulated noise"), !network.noisy.is_empty());
        let noisy = section.descendants().filter(|node| node.has_tag_name("tr"));
        let noisy: Vec<Vec<String>> = noisy.map(|row| row.children().map(text).collect()).collect();
        for row in &network.noisy {
            let expected = [
                row.alpha.to_string(),
                row.noise_bits.unwrap().to_string(),
                "35".to_owned(),
                row.b_max.map_or("–".to_owned(), |_| "20.123".to_owned()),
                format!("{:.2} %", 100.0 * row.accuracy.unwrap()),
            ];
            let excursions = if row.excursions > 0 { "1,234" } else { "0" };
            let found = noisy.iter().find(|line| line.starts_with(&expected));
            assert_eq!(
                found.and_then(|line| line.last()).map(String::as_str),
                Some(excursions),
                "{expected:?}"
            );
        }
        assert_eq!(texts(&parsed, "h3").contains(&"Noise".to_owned()), data.networks.len() > 1);
    }
    for name in ["A processor", "avx2", "0.1.0", "2026-11-24 17:30 UTC", &"c0ffee".repeat(10)] {
        assert!(texts(&parsed, "dd").iter().any(|entry| entry.contains(name)), "{name}");
    }
}

#[test]
fn the_least_depth_within_what_can_be_spared_is_recommended() {
    let data = data(&ALL[..1]);
    let network = &data.networks[0];
    // The loss is about 2^(5 - alpha).
    assert_eq!(network.least_depth_within(0.01).unwrap().alpha, 12);
    let lost = |alpha: u8| network.rows.iter().find(|row| row.alpha == alpha).unwrap().relative_difference;
    let alpha = |drop: f64| network.least_depth_within(drop).map(|row| row.alpha);
    for allowed in [0.5, 0.1, 0.03, 0.01, 0.005, -1.0] {
        let expected = (5..=14).find(|&alpha| lost(alpha).is_some_and(|lost| lost >= -allowed));
        assert_eq!(alpha(allowed), expected, "{allowed}");
    }
    let page = page::html(&data).unwrap();
    let parsed = parse(&page);
    let items = texts(&parsed, "li");
    for (item, drop, words) in [(&items[0], 0.005, "within 0.5 %: "), (&items[1], 0.01, "within 1 %: ")] {
        let row = network.least_depth_within(drop).unwrap();
        let expected = format!("{words}alpha {}, {} levels a ReLU", row.alpha, row.relu_depth);
        assert!(item.starts_with(&expected), "{item}");
    }
}

#[test]
fn all_pictures_are_xml_of_known_colours() {
    let data = data(&ALL);
    let pictures = plots::all(&data).unwrap();
    let names: Vec<&str> = pictures.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "comparison",
        "resnet110-alpha",
        "resnet110-depth",
        "resnet110-ranges-1",
        "resnet110-ranges-2",
        "resnet110-ranges-3",
        "vgg11bn-alpha",
        "vgg11bn-depth",
        "vgg11bn-noise",
        "vgg11bn-ranges",
        "googlenet-alpha",
        "googlenet-depth",
        "googlenet-noise",
        "googlenet-ranges-1",
        "googlenet-ranges-2",
        "approximations",
    ];
    assert_eq!(names, expected);
    let known: BTreeSet<String> = palette::all().map(palette::Colour::light).collect();
    let page = page::html(&data).unwrap();
    let mut site_names = BTreeSet::new();
    for (name, picture) in &pictures {
        let file = picture.file();
        let parsed = Document::parse(&file).unwrap();
        let root = parsed.root_element();
        assert_eq!(root.tag_name().namespace(), Some("http://www.w3.org/2000/svg"), "{name}");
        for node in parsed.descendants() {
            for attribute in ["fill", "stroke"] {
                let colour = node.attribute(attribute).unwrap_or("none");
                assert!(colour == "none" || known.contains(colour), "{name}: {colour}");
            }
        }
        // The background is the first thing that is drawn.
        let first = root.children().filter(Node::is_element).nth(1).unwrap();
        assert_eq!((first.tag_name().name(), first.attribute("fill")), ("rect", Some("#FFFFFF")), "{name}");
        assert!(page.contains(&picture.inline()), "{name}");
        site_names.extend(texts(&parsed, "text"));
        let sizes = root.descendants().filter_map(|node| node.attribute("font-size"));
        let smallest = sizes.map(|size| size.parse::<f64>().unwrap()).fold(f64::INFINITY, f64::min);
        // In units, four a pixel.
        assert!(smallest / 4.0 >= 8.0, "{name}: letters of {} pixels", smallest / 4.0);
    }
    for site in data.networks.iter().flat_map(|network| &network.sites) {
        assert!(site_names.contains(&site.name), "{}", site.name);
    }
    let rules = palette::dark_rules();
    assert!(page.contains(&rules));
    assert!(known.iter().all(|colour| rules.contains(&format!("[stroke=\"{colour}\"]"))));
}

#[test]
fn the_same_data_are_the_same_bytes() {
    let (one, other) = (data(&ALL[..1]), data(&ALL[..1]));
    assert_eq!(page::html(&one).unwrap(), page::html(&other).unwrap());
}

#[test]
fn a_sweep_without_results_is_a_page_too() {
    let mut data = data(&ALL[..1]);
    let network = &mut data.networks[0];
    network.rows.truncate(1);
    (network.bounds_of, network.sites) = (None, Vec::new());
    let page = page::html(&data).unwrap();
    assert_self_contained(&page);
    let parsed = parse(&page);
    assert!(texts(&parsed, "li").iter().all(|item| item.contains("no precision of this sweep")));
    assert!(text(parsed.root_element()).contains("No precision gave a result."));
    assert_eq!(plots::all(&data).unwrap().len(), 1);

    let nothing = SweepData { networks: Vec::<NetworkData>::new(), signs: Vec::new(), ..data };
    assert_self_contained(&page::html(&nothing).unwrap());
}

#[test]
fn files_are_written_and_their_places_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(&ALL[..1]);
    page::write(&data, &folder.path().join("page.html")).unwrap();
    page::write_plots(&data, folder.path()).unwrap();
    let page = fs::read_to_string(folder.path().join("page.html")).unwrap();
    assert_eq!(page, page::html(&data).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1 + plots::all(&data).unwrap().len());
    let error = page::write(&data, &folder.path().join("no/such/page.html")).unwrap_err().to_string();
    assert!(error.contains("no/such/page.html"), "{error}");
}
