//! Distributions, one below the other.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use crate::axis::{Axis, Scale, Ticks};
use crate::error::Result;
use crate::palette::{BASELINE, Colour, GRID, INK, MUTED, PAPER};
use crate::picture::{self, Drawn, Picture, anchored, line, px, text};

/// Width of a picture in pixels.
const WIDTH: u32 = 420;
/// Height of a box's row.
const ROW: f64 = 19.0;
/// Height of what is not rows: the axis and the key.
const REST: f64 = 82.0;
/// Height of text.
const LETTERS: f64 = 12.0;
/// What the parts of a box are.
const KEY: [&str; 2] =
    ["box: 1 to 99 % · thin box: 0.1 to 99.9 % · line: all", "gap: median · red: −B and B"];

/// A distribution.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// Of what.
    pub name: String,
    /// The colour of its box.
    pub colour: Colour,
    /// The smallest value.
    pub min: f64,
    /// The 0.1, 1, 50, 99 and 99.9 % quantiles.
    pub quantiles: [f64; 5],
    /// The largest value.
    pub max: f64,
    /// `B` of the range `[-B, B]` that they should be in; `None` for no range.
    pub bound: Option<f64>,
}

/// The largest |x| of all values and bounds.
pub fn largest(distributions: &[Distribution]) -> f64 {
    let sizes = |d: &Distribution| [-d.min, d.max, d.bound.unwrap_or(0.0)].into_iter().fold(0.0, f64::max);
    distributions.iter().map(sizes).fold(0.0, f64::max)
}

/// The distributions as boxes on an axis from `-largest` to `largest`.
///
/// # Errors
/// [`ReportError::Drawing`](crate::ReportError::Drawing).
pub fn draw(title: &str, distributions: &[Distribution], largest: f64) -> Result<Picture> {
    let rows = distributions.len();
    let height = (ROW * rows as f64 + REST) as u32;
    // Long names get smaller letters rather than the room of the boxes.
    let longest = distributions.iter().map(|d| picture::width(&d.name, LETTERS)).fold(0.0, f64::max);
    let names = longest.min(160.0);
    let letters = (LETTERS * names / longest.max(1.0)).min(LETTERS);
    let axis =
        Axis::new("input of the activation", Scale::Linear).with_range(-1.04 * largest, 1.04 * largest);
    let x = axis.ticks([].into_iter(), 6);
    picture::picture(title, (WIDTH, height), |area| {
        let (plot, key) = area.split_vertically(px(f64::from(height) - 38.0));
        let mut chart = ChartBuilder::on(&plot)
            .margin_right(px(14.0))
            .margin_left(px(6.0))
            .x_label_area_size(px(40.0))
            .y_label_area_size(px(12.0 + names))
            .build_cartesian_2d(x.clone(), Ticks::rows(rows))?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .x_desc(axis.label())
            .x_label_formatter(&|&place| x.text(place))
            .y_label_formatter(&|&row| distributions[row as usize].name.clone())
            .x_label_style(text(LETTERS, MUTED))
            .y_label_style(text(letters, INK))
            .axis_desc_style(text(LETTERS, INK))
            .axis_style(line(MUTED, 1.0))
            .bold_line_style(line(GRID, 1.0))
            .light_line_style(TRANSPARENT)
            .set_all_tick_mark_size(px(3.0))
            .draw()?;
        for (row, distribution) in distributions.iter().enumerate() {
            let middle = row as f64 + 0.5;
            let [least, low, median, high, most] = distribution.quantiles;
            let (style, fill) = (line(distribution.colour, 1.25), distribution.colour.rgb().filled());
            let rectangle = |from: f64, to: f64, half: f64, style| {
                Rectangle::new([(from, middle - half), (to, middle + half)], style)
            };
            chart.draw_series([PathElement::new(
                [(distribution.min, middle), (distribution.max, middle)],
                style,
            )])?;
            chart.draw_series([rectangle(least, most, 0.14, fill), rectangle(low, high, 0.32, fill)])?;
            let tick =
                |x: f64, half: f64, style| PathElement::new([(x, middle - half), (x, middle + half)], style);
            chart.draw_series([distribution.min, distribution.max].map(|x| tick(x, 0.2, style)))?;
            chart.draw_series([tick(median, 0.32, line(PAPER, 2.0))])?;
            if let Some(bound) = distribution.bound {
                chart.draw_series([-bound, bound].map(|x| tick(x, 0.42, line(BASELINE, 2.0))))?;
            }
        }
        for (line, words) in KEY.iter().enumerate() {
            let place = (px(f64::from(WIDTH) / 2.0), px(8.0 + 16.0 * line as f64));
            key.draw(&Text::new(*words, place, anchored(LETTERS - 1.0, MUTED, HPos::Center)))?;
        }
        Drawn::Ok(())
    })
}
