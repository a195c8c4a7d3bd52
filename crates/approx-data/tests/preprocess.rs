//! Pictures become what Pillow and torchvision make of them; `preprocess/make.py` tells how the files were made.

use std::fs;
use std::path::{Path, PathBuf};

use approx_data::Preprocess;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/preprocess")
}

/// Of `NAME_EXT.RESIZE-CROP.png` or `NAME_EXT.crop224.png`: the picture, and what is done to it.
fn parse(golden: &str) -> Option<(String, Preprocess)> {
    let (picture, sizes) = golden.strip_suffix(".png")?.split_once('.')?;
    let (name, extension) = picture.rsplit_once('_')?;
    let preprocess = match sizes {
        "crop224" => Preprocess::IMAGENET,
        _ => {
            let (resize, size) = sizes.split_once('-')?;
            Preprocess::new(resize.parse().ok()?, size.parse().ok()?).ok()?
        }
    };
    Some((format!("{name}.{extension}"), preprocess))
}

/// The largest and the mean difference of a channel of a pixel.
fn difference(golden: &str, picture: &str, preprocess: Preprocess) -> (u8, f64) {
    let ours = preprocess.image(picture, &fs::read(folder().join(picture)).unwrap()).unwrap();
    let golden = image::open(folder().join(golden)).unwrap().into_rgb8();
    let size = preprocess.size();
    assert_eq!(golden.dimensions(), (size as u32, size as u32), "{picture}");
    let differences: Vec<u8> = golden
        .pixels()
        .enumerate()
        .flat_map(|(i, pixel)| [0, 1, 2].map(|c| pixel.0[c].abs_diff(ours[c * size * size + i])))
        .collect();
    let sum: u32 = differences.iter().copied().map(u32::from).sum();
    (*differences.iter().max().unwrap(), f64::from(sum) / differences.len() as f64)
}

#[test]
fn lossless_pictures_are_those_of_pillow_and_torchvision_and_jpeg_is_close() {
    let names =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut cases: Vec<_> = names.filter_map(|name| Some((parse(&name)?, name))).collect();
    cases.sort_by(|a, b| a.1.cmp(&b.1));
    assert!(cases.len() >= 40, "{}", cases.len());
    let mut wrong = Vec::new();
    for ((picture, preprocess), golden) in cases {
        let (largest, mean) = difference(&golden, &picture, preprocess);
        println!("{golden:40} {largest:3} {mean:.4}");
        let allowed = if Path::new(&picture).extension().is_some_and(|e| e == "jpg") { 4 } else { 0 };
        if largest > allowed {
            wrong.push(format!("{golden}: differs by {largest}, but at most {allowed} are right"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn damaged_pictures_are_errors_or_pictures_but_never_panics() {
    let names =
        ["j420.jpg", "j444.jpg", "progressive.jpg", "cmyk.jpg", "ycck.jpg", "tiny9.jpg", "restarts.jpg"];
    let others = ["palette.png", "la.png", "lossy.webp", "lossless.webp", "palette.bmp", "colour.ppm"];
    let preprocess = Preprocess::new(20, 16).unwrap();
    for name in names.into_iter().chain(others) {
        let whole = fs::read(folder().join(name)).unwrap();
        for i in 0..60 {
            let cut = whole.len() * i / 60;
            let result = preprocess.image(name, &whole[..cut]);
            if name.ends_with(".jpg") || i < 45 {
                assert!(result.unwrap_err().to_string().starts_with(name), "{name}: {cut}");
            }
            let mut changed = whole.clone();
            changed[cut] ^= 1 << (i % 8);
            changed[whole.len() - 1 - cut / 2] = 0xff;
            let _ = preprocess.image(name, &changed);
        }
    }
    let mut junk = fs::read(folder().join("j420.jpg")).unwrap();
    junk.extend(b"junk");
    assert!(preprocess.image("junk behind the end", &junk).is_ok());
}
