//! Plots of a composition as SVG.

use std::fmt::Write;

use anyhow::{Result, anyhow};
use minimax_coeffs::table_file::Record;

const WIDTH: f64 = 720.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 40.0;
const COLOURS: [&str; 6] = ["#1b6ca8", "#d1495b", "#2a9d5c", "#8d5fd3", "#c7822b", "#444444"];

/// A rectangle of the picture with axes of its own.
struct Panel {
    top: f64,
    height: f64,
    x: [f64; 2],
    y: [f64; 2],
    /// Whether the horizontal axis is logarithmic.
    logarithmic: bool,
}

impl Panel {
    fn horizontal(&self, x: f64) -> f64 {
        let place = |x: f64| if self.logarithmic { x.ln() } else { x };
        let share = (place(x) - place(self.x[0])) / (place(self.x[1]) - place(self.x[0]));
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }

    fn vertical(&self, y: f64) -> f64 {
        self.top + (self.y[1] - y) / (self.y[1] - self.y[0]) * self.height
    }

    /// The frame with ticks: place and label.
    fn frame(&self, svg: &mut String, x_ticks: &[(f64, String)], y_ticks: &[(f64, String)]) {
        let (left, right, bottom) = (LEFT, WIDTH - RIGHT, self.top + self.height);
        for (x, label) in x_ticks {
            let x = self.horizontal(*x);
            line(svg, [x, self.top, x, bottom], "#e4e4e4", "");
            text(svg, [x, bottom + 17.0], "middle", "#555555", label);
        }
        for (y, label) in y_ticks {
            let y = self.vertical(*y);
            line(svg, [left, y, right, y], "#e4e4e4", "");
            text(svg, [left - 8.0, y + 4.0], "end", "#555555", label);
        }
        let (width, height) = (right - left, self.height);
        svg.push_str(&format!(
            "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"none\" stroke=\"#999999\"/>\n",
            self.top
        ));
    }

    fn curve(&self, svg: &mut String, colour: &str, points: impl Iterator<Item = (f64, f64)>) {
        let mut path = String::new();
        for (x, y) in points {
            let command = if path.is_empty() { 'M' } else { 'L' };
            write!(path, "{command}{:.1} {:.1}", self.horizontal(x), self.vertical(y))
                .expect("a String takes all");
        }
        svg.push_str(&format!(
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\n"
        ));
    }
}

/// What each component makes of `x`, from where the sign is unknown to 1.
pub fn composition(table: &Record) -> Result<String> {
    const STEPS: u32 = 4000;
    let sign = table.composite().map_err(|reason| anyhow!(reason))?;
    let error = table.target.error();
    let panel = Panel { top: 44.0, height: 330.0, x: [error, 1.0], y: [0.0, 2.0], logarithmic: true };
    let mut svg = open(430.0);
    let title =
        format!("What the components of degrees {} make of x, alpha {}", list(table), table.target.bits());
    text(&mut svg, [LEFT, 24.0], "start", "#222222", &title);
    let bits = i32::from(table.target.bits());
    let x_ticks: Vec<_> = (0..=bits)
        .step_by(2)
        .map(|b| (f64::from(-b).exp2(), if b == 0 { "1".to_owned() } else { format!("2^-{b}") }))
        .collect();
    let y_ticks: Vec<_> = [0.0, 0.5, 1.0, 1.5, 2.0].map(|y| (y, format!("{y}"))).to_vec();
    panel.frame(&mut svg, &x_ticks, &y_ticks);
    let start = panel.horizontal(table.components[0].interval[0]);
    line(&mut svg, [start, panel.top, start, panel.top + panel.height], "#888888", "4 3");
    text(&mut svg, [start + 6.0, panel.top + 18.0], "start", "#555555", "first interval →");
    for k in 1..=sign.components().len() {
        let colour = COLOURS[(k - 1) % COLOURS.len()];
        // More points to the right, where the curves are dense.
        let points = (0..=STEPS).map(|i| error.powf(1.0 - (f64::from(i) / f64::from(STEPS)).sqrt()));
        let values = points.map(|x| (x, sign.components()[..k].iter().fold(x, |x, p| p.eval(x))));
        panel.curve(&mut svg, colour, values);
        let y = panel.top + 20.0 + 18.0 * k as f64;
        line(&mut svg, [LEFT + 16.0, y - 4.0, LEFT + 40.0, y - 4.0], colour, "");
        let name =
            if k == sign.components().len() { "s(x)".to_owned() } else { format!("after component {k}") };
        text(&mut svg, [LEFT + 48.0, y], "start", "#222222", &name);
    }
    Ok(close(svg))
}

/// Each component's error on its interval, as a part of the largest.
pub fn equioscillation(table: &Record) -> Result<String> {
    const STEPS: u32 = 1200;
    const HEIGHT: f64 = 120.0;
    let sign = table.composite().map_err(|reason| anyhow!(reason))?;
    let mut svg = open(20.0 + (HEIGHT + 60.0) * sign.components().len() as f64);
    for (k, (component, polynomial)) in table.components.iter().zip(sign.components()).enumerate() {
        let [left, right] = component.interval;
        let top = 40.0 + (HEIGHT + 60.0) * k as f64;
        let panel = Panel { top, height: HEIGHT, x: [left, right], y: [-1.25, 1.25], logarithmic: k == 0 };
        let title = format!(
            "Component {}, degree {}: p(x) − 1, in units of its largest error {:.4e}",
            k + 1,
            polynomial.degree(),
            component.error
        );
        text(&mut svg, [LEFT, top - 10.0], "start", "#222222", &title);
        let share = |i: u32| f64::from(i) / 4.0;
        let x_ticks = (0..=4).map(|i| match k {
            0 => left * (right / left).powf(share(i)),
            _ => left + (right - left) * share(i),
        });
        let x_ticks: Vec<_> = x_ticks.map(|x| (x, format!("{x:.4}"))).collect();
        let y_ticks = [-1.0, 0.0, 1.0].map(|y| (y, format!("{y}")));
        panel.frame(&mut svg, &x_ticks, &y_ticks);
        let points = (0..=STEPS).map(|i| {
            let share = f64::from(i) / f64::from(STEPS);
            let x = if k == 0 { left * (right / left).powf(share) } else { left + (right - left) * share };
            (x, (polynomial.eval(x) - 1.0) / component.error)
        });
        panel.curve(&mut svg, COLOURS[k % COLOURS.len()], points);
    }
    Ok(close(svg))
}

fn list(table: &Record) -> String {
    table.degrees.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

fn open(height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    )
}

fn close(mut svg: String) -> String {
    svg.push_str("</svg>\n");
    svg
}

fn line(svg: &mut String, [x1, y1, x2, y2]: [f64; 4], colour: &str, dashes: &str) {
    let dashes = if dashes.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dashes}\"") };
    svg.push_str(&format!(
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"{dashes}/>\n"
    ));
}

fn text(svg: &mut String, [x, y]: [f64; 2], anchor: &str, colour: &str, content: &str) {
    svg.push_str(&format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{content}</text>\n"
    ));
}
