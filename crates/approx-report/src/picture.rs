//! A picture in SVG.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::error::{ReportError, Result};
use crate::html::escape;
use crate::palette::{Colour, INK, PAPER};

/// plotters places things on whole units, so a pixel is several.
const UNITS: u32 = 4;
/// plotters makes text smaller by this.
const TEXT: f64 = 1.24;
/// Height of a title.
const TITLE: u32 = 30;

/// A drawn picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    title: String,
    /// In pixels, as a file.
    size: (u32, u32),
    /// The elements.
    body: String,
}

impl Picture {
    /// What it shows.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// As an element of a page: as wide as there is room, without a background, in colours that
    /// [`palette::dark_rules`](crate::palette::dark_rules) can change.
    pub fn inline(&self) -> String {
        let (width, height) = self.size;
        format!(
            "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n{}</svg>\n",
            width * UNITS,
            height * UNITS,
            escape(&self.title),
            self.body
        )
    }

    /// As a file of its own, on white.
    pub fn file(&self) -> String {
        let (width, height) = self.size;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {} {}\">\n\
             <title>{}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"{}\"/>\n{}</svg>\n",
            width * UNITS,
            height * UNITS,
            escape(&self.title),
            PAPER.light(),
            self.body
        )
    }
}

pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(crate) type Drawn<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Pixels in the units of the drawing.
pub(crate) fn px(pixels: f64) -> i32 {
    (pixels * f64::from(UNITS)).round() as i32
}

/// Text of a height in pixels.
pub(crate) fn text(size: f64, colour: Colour) -> TextStyle<'static> {
    ("sans-serif", size * TEXT * f64::from(UNITS)).into_font().color(&colour.rgb())
}

/// Text that ends, is in the middle of, or begins at a place, and is vertically in its middle.
pub(crate) fn anchored(size: f64, colour: Colour, h_pos: HPos) -> TextStyle<'static> {
    text(size, colour).pos(Pos::new(h_pos, VPos::Center))
}

/// A line of a width in pixels.
pub(crate) fn line(colour: Colour, width: f64) -> ShapeStyle {
    colour.rgb().stroke_width(px(width) as u32)
}

/// About how many pixels wide a text is.
pub(crate) fn width(text: &str, size: f64) -> f64 {
    0.58 * size * text.chars().count() as f64
}

/// A picture of `size` pixels and a title above.
pub(crate) fn picture(title: &str, size: (u32, u32), draw: impl FnOnce(&Area) -> Drawn) -> Result<Picture> {
    let size = (size.0, size.1 + TITLE);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (size.0 * UNITS, size.1 * UNITS)).into_drawing_area();
        // Its errors borrow the drawing.
        let draw = || -> Drawn {
            let (head, rest) = root.split_vertically(px(f64::from(TITLE)));
            let middle = (px(f64::from(size.0) / 2.0), px(17.0));
            head.draw(&Text::new(title.to_owned(), middle, anchored(15.0, INK, HPos::Center)))?;
            draw(&rest)?;
            root.present()?;
            Ok(())
        };
        draw()
            .map_err(|error| ReportError::Drawing { title: title.to_owned(), reason: error.to_string() })?;
    }
    // What plotters writes is one element, whose first and last lines are put anew.
    let body = svg.split_once('\n').and_then(|(_, rest)| rest.trim_end().strip_suffix("</svg>"));
    let body = body.ok_or_else(|| ReportError::Drawing {
        title: title.to_owned(),
        reason: "the drawing is not one element".to_owned(),
    })?;
    Ok(Picture { title: title.to_owned(), size, body: body.to_owned() })
}
