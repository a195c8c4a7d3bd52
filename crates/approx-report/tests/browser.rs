//! The page in a browser. Skips, aloud, without Chromium (`CHROMIUM` names one that is not in the `PATH`).
//!
//! What it looked like stays in the folder `report` of Cargo's folder for tests' files, `target/tmp`.

mod support;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use approx_report::page;
use image::{DynamicImage, GenericImageView};

use support::data;

/// Of a phone, in CSS pixels.
const PHONE: u32 = 390;

/// Says in the console how wide the page is and what is wrong with the texts of its pictures.
const PROBE: &str = r#"<script>
const round = rect => `${Math.round(rect.left)}..${Math.round(rect.right)}`;
let letters = Infinity, texts = 0;
const wrong = [];
for (const svg of document.querySelectorAll('svg')) {
  const frame = svg.getBoundingClientRect();
  const all = [...svg.querySelectorAll('text')].map(text => [text, text.getBoundingClientRect()]);
  texts += all.length;
  for (const [i, [text, rect]] of all.entries()) {
    letters = Math.min(letters, parseFloat(text.getAttribute('font-size')) * frame.width / svg.viewBox.baseVal.width);
    if (rect.left < frame.left - 1 || rect.right > frame.right + 1 || rect.top < frame.top - 1 || rect.bottom > frame.bottom + 1)
      wrong.push(`"${text.textContent.trim()}" leaves "${svg.getAttribute('aria-label')}"`);
    // Boxes hold the letters' full height, of which numbers and most names leave a part empty.
    const slack = 0.2 * rect.height;
    for (const [other, box] of all.slice(0, i))
      if (rect.left < box.right && box.left < rect.right && rect.top + slack < box.bottom - slack && box.top + slack < rect.bottom - slack)
        wrong.push(`"${text.textContent.trim()}" covers "${other.textContent.trim()}" in "${svg.getAttribute('aria-label')}"`);
  }
}
console.log(`probe texts=${texts} letters=${letters.toFixed(2)} width=${document.documentElement.scrollWidth} window=${innerWidth} wrong=${wrong.length}: ${wrong.slice(0, 10).join('; ')} end`);
</script>"#;

struct Browser {
    program: PathBuf,
    folder: PathBuf,
}

impl Browser {
    fn find(folder: &Path) -> Option<Self> {
        let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
        let names = ["chromium", "chromium-browser", "google-chrome", "chrome"].map(PathBuf::from);
        let candidates = named.into_iter().chain(names);
        let runs = |program: &PathBuf| {
            Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
        };
        let program = candidates.into_iter().find(runs)?;
        Some(Self { program, folder: folder.to_owned() })
    }

    /// What the console said to a file of the folder, with the picture of it if `picture` names one.
    fn open(
        &self,
        file: &str,
        size: (u32, u32),
        dark: bool,
        picture: Option<&str>,
    ) -> (Vec<String>, Option<DynamicImage>) {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new(&self.program);
        command
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"])
            .args(["--enable-logging=stderr", "--virtual-time-budget=2000"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("--blink-settings=preferredColorScheme={}", if dark { 0 } else { 1 }))
            .arg(format!("--window-size={},{}", size.0, size.1));
        let shot = picture.map(|name| self.folder.join(name));
        match &shot {
            Some(path) => command.arg(format!("--screenshot={}", path.display())),
            None => command.arg("--dump-dom"),
        };
        let output = command.arg(format!("file://{}", self.folder.join(file).display())).output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{log}");
        let console = log.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned).collect();
        (console, shot.map(|path| image::open(&path).unwrap_or_else(|error| panic!("{error}: {log}"))))
    }

    /// The numbers that the probe says, and what is wrong.
    fn probe(&self, file: &str, size: (u32, u32)) -> (HashMap<String, f64>, String) {
        let (console, _) = self.open(file, size, false, None);
        let line = console.iter().find_map(|line| line.split_once("probe ")).expect("the probe speaks").1;
        let (numbers, wrong) = line.split_once(": ").unwrap();
        let numbers = numbers.split(' ').map(|part| part.split_once('=').unwrap());
        let numbers = numbers.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect();
        (numbers, wrong.split_once(" end").unwrap().0.to_owned())
    }
}

/// The share of pixels by colour, the most frequent first.
fn colours(image: &DynamicImage) -> Vec<([u8; 4], f64)> {
    let mut counts = HashMap::new();
    image.pixels().for_each(|(_, _, colour)| *counts.entry(colour.0).or_insert(0u32) += 1);
    let all = f64::from(image.width() * image.height());
    let mut shares: Vec<_> =
        counts.into_iter().map(|(colour, count)| (colour, f64::from(count) / all)).collect();
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    shares
}

#[test]
fn a_browser_shows_the_page_light_dark_and_on_a_phone() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report");
    fs::create_dir_all(&folder).unwrap();
    let Some(browser) = Browser::find(&folder) else {
        eprintln!("SKIPPED: there is no Chromium to show the page (CHROMIUM can name one)");
        return;
    };
    let networks = [("cifar10", "resnet110"), ("cifar10", "vgg11bn"), ("imagenet", "googlenet")];
    let html = page::html(&data(&networks)).unwrap();
    let probed = html.replace("</body>", &format!("{PROBE}</body>"));
    let frame = |file: &str| {
        format!(
            "<!DOCTYPE html><body style=\"margin:0\"><iframe src=\"{file}\" \
             style=\"width:{PHONE}px;height:4000px;border:0\"></iframe></body>"
        )
    };
    for (name, text) in [
        ("page.html", html.as_str()),
        ("probed.html", &probed),
        // A window is not as narrow as a phone, a frame may be.
        ("phone.html", &frame("page.html")),
        ("probed-phone.html", &frame("probed.html")),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }

    for (file, width, dark, background) in [
        ("page.html", 1200, false, [255, 255, 255, 255]),
        ("page.html", 1200, true, [13, 17, 23, 255]),
        ("phone.html", 500, false, [255, 255, 255, 255]),
        ("phone.html", 500, true, [13, 17, 23, 255]),
    ] {
        let name = format!("{}-{}.png", file.trim_end_matches(".html"), if dark { "dark" } else { "light" });
        let (console, picture) = browser.open(file, (width, 4000), dark, Some(&name));
        assert_eq!(console, Vec::<String>::new(), "{name}");
        let picture = picture.unwrap();
        assert_eq!(picture.dimensions(), (width, 4000), "{name}");
        let shown = if file == "phone.html" { picture.crop_imm(0, 0, PHONE, 4000) } else { picture };
        let colours = colours(&shown);
        assert_eq!(colours[0].0, background, "{name}");
        // Text and lines: neither nothing nor all of it.
        assert!((0.3..0.98).contains(&colours[0].1) && colours.len() > 200, "{name}: {:?}", &colours[..5]);
        let series = approx_report::Colour::series(0);
        let expected = if dark { series.dark() } else { series.light() };
        let found = colours
            .iter()
            .any(|([r, g, b, _], share)| format!("#{r:02X}{g:02X}{b:02X}") == expected && *share > 1e-4);
        assert!(found, "{name}: nothing is {expected}");
    }

    for (file, width, window) in [("probed.html", 1200, 1200), ("probed-phone.html", 500, PHONE)] {
        let (numbers, wrong) = browser.probe(file, (width, 3000));
        assert_eq!(numbers["window"], f64::from(window), "{file}");
        assert!(numbers["texts"] > 400.0, "{file}: {numbers:?}");
        assert_eq!(numbers["wrong"], 0.0, "{file}: {wrong}");
        assert!(numbers["width"] <= f64::from(window), "{file} scrolls sideways: {numbers:?}");
        assert!(numbers["letters"] >= 7.0, "{file}: {numbers:?}");
    }
}
