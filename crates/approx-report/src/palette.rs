//! The colours of pictures, each for a light and for a dark background.
//!
//! A picture states the light ones. A page overrides them by style rules that select them ([`dark_rules`]), so a picture
//! is the same in a page and in a file of its own.

use std::fmt::Write;

use plotters::style::RGBColor;

/// A colour and its counterpart on a dark background, as red, green and blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour {
    light: (u8, u8, u8),
    dark: (u8, u8, u8),
}

/// The background.
pub const PAPER: Colour = Colour { light: (255, 255, 255), dark: (22, 27, 34) };
/// Text.
pub const INK: Colour = Colour { light: (31, 35, 40), dark: (230, 237, 243) };
/// Axes and what is less important.
pub const MUTED: Colour = Colour { light: (101, 109, 118), dark: (145, 152, 161) };
/// The grid.
pub const GRID: Colour = Colour { light: (223, 227, 232), dark: (48, 54, 61) };
/// What data are compared with.
pub const BASELINE: Colour = Colour { light: (190, 30, 30), dark: (255, 123, 114) };
/// Lines and points, to be told apart.
const SERIES: [Colour; 12] = [
    Colour { light: (31, 111, 180), dark: (88, 166, 255) },
    Colour { light: (217, 95, 2), dark: (255, 166, 87) },
    Colour { light: (27, 133, 90), dark: (86, 211, 150) },
    Colour { light: (130, 80, 190), dark: (188, 140, 255) },
    Colour { light: (160, 110, 10), dark: (227, 179, 65) },
    Colour { light: (200, 50, 130), dark: (255, 128, 191) },
    Colour { light: (20, 140, 150), dark: (70, 205, 215) },
    Colour { light: (110, 75, 55), dark: (205, 165, 140) },
    Colour { light: (95, 125, 25), dark: (170, 205, 90) },
    Colour { light: (75, 85, 160), dark: (150, 165, 245) },
    Colour { light: (150, 30, 60), dark: (240, 140, 160) },
    Colour { light: (90, 90, 90), dark: (185, 185, 185) },
];

impl Colour {
    /// The colour of the line with this index; they repeat after twelve.
    pub fn series(index: usize) -> Self {
        SERIES[index % SERIES.len()]
    }

    /// For pictures.
    pub(crate) fn rgb(self) -> RGBColor {
        let (red, green, blue) = self.light;
        RGBColor(red, green, blue)
    }

    /// On a light background, as `#1F2328`.
    pub fn light(self) -> String {
        hex(self.light)
    }

    /// On a dark background.
    pub fn dark(self) -> String {
        hex(self.dark)
    }
}

fn hex((red, green, blue): (u8, u8, u8)) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// All colours that pictures have.
pub fn all() -> impl Iterator<Item = Colour> {
    [PAPER, INK, MUTED, GRID, BASELINE].into_iter().chain(SERIES)
}

/// Style rules that give the pictures of a page their dark colours.
pub fn dark_rules() -> String {
    let mut css = String::new();
    for colour in all() {
        let (light, dark) = (colour.light(), colour.dark());
        write!(css, "svg [fill=\"{light}\"]{{fill:{dark}}}svg [stroke=\"{light}\"]{{stroke:{dark}}}")
            .expect("a String takes all");
    }
    css
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Relative luminance (WCAG 2.1).
    fn luminance((red, green, blue): (u8, u8, u8)) -> f64 {
        let linear = |channel: u8| match f64::from(channel) / 255.0 {
            c if c <= 0.03928 => c / 12.92,
            c => ((c + 0.055) / 1.055).powf(2.4),
        };
        0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)
    }

    fn contrast(a: (u8, u8, u8), b: (u8, u8, u8)) -> f64 {
        let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
        a.max(b) / a.min(b)
    }

    #[test]
    fn a_colour_is_known_by_its_light_form() {
        assert_eq!(all().map(Colour::light).collect::<BTreeSet<_>>().len(), all().count());
    }

    #[test]
    fn all_but_the_grid_stand_out_from_both_backgrounds() {
        // 3 is what WCAG 2.1 asks of graphics, 4.5 of text.
        for colour in all().filter(|colour| ![PAPER, GRID].contains(colour)) {
            let least = if [INK, MUTED].contains(&colour) { 4.5 } else { 3.0 };
            assert!(contrast(colour.light, PAPER.light) >= least, "{colour:?}");
            assert!(contrast(colour.dark, PAPER.dark) >= least, "{colour:?}");
        }
    }
}
