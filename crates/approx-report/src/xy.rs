//! Lines and points over two axes.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use crate::axis::{Axis, Ticks};
use crate::error::Result;
use crate::palette::{BASELINE, Colour, GRID, INK, MUTED};
use crate::picture::{self, Area, Drawn, Picture, anchored, line, px, text};

/// Width and height of a plot in pixels, without title and legend.
const SIZE: (u32, u32) = (420, 280);
/// Height of text.
const LETTERS: f64 = 12.0;
/// Height of a line of the legend.
const LEGEND_LINE: f64 = 20.0;
/// What a name in the legend stands behind.
const SWATCH: f64 = 26.0;

/// Values to be shown by one colour.
#[derive(Debug, Clone)]
pub struct Series {
    name: String,
    colour: Colour,
    points: Vec<(f64, f64)>,
    labels: Vec<String>,
    line: bool,
    marks: bool,
}

impl Series {
    /// Points `(x, y)` with a line through them. Points that an axis cannot show, such as NaN, are left out.
    pub fn new(name: &str, colour: Colour, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.to_owned(), colour, points, labels: Vec::new(), line: true, marks: true }
    }

    /// Text beside each point, in their order.
    pub fn with_labels(mut self, labels: Vec<String>) -> Self {
        self.labels = labels;
        self
    }

    /// No line, only points.
    pub fn without_line(mut self) -> Self {
        self.line = false;
        self
    }

    /// No points, only the line.
    pub fn without_marks(mut self) -> Self {
        self.marks = false;
        self
    }
}

/// A plot of several [`Series`].
#[derive(Debug, Clone)]
pub struct XyPlot {
    x: Axis,
    y: Axis,
    series: Vec<Series>,
    baseline: Option<(String, f64)>,
}

impl XyPlot {
    /// An empty plot.
    pub fn new(x: Axis, y: Axis) -> Self {
        Self { x, y, series: Vec::new(), baseline: None }
    }

    /// With one more line.
    pub fn with(mut self, series: Series) -> Self {
        self.series.push(series);
        self
    }

    /// With a dashed line at `y` to compare with.
    pub fn with_baseline(mut self, name: &str, y: f64) -> Self {
        self.baseline = Some((name.to_owned(), y));
        self
    }

    /// The picture.
    ///
    /// # Errors
    /// [`ReportError::Drawing`](crate::ReportError::Drawing).
    pub fn draw(&self, title: &str) -> Result<Picture> {
        Self::draw_row(title, &[self])
    }

    /// Several plots side by side.
    ///
    /// # Errors
    /// As [`XyPlot::draw`].
    pub fn draw_row(title: &str, plots: &[&Self]) -> Result<Picture> {
        let lines = plots.iter().map(|plot| plot.legend().1).max().unwrap_or(0);
        let size = (SIZE.0 * plots.len() as u32, SIZE.1 + (lines as f64 * LEGEND_LINE) as u32);
        picture::picture(title, size, |area| {
            let areas = area.split_evenly((1, plots.len()));
            areas.iter().zip(plots).try_for_each(|(area, plot)| plot.panel(area))
        })
    }

    fn panel(&self, area: &Area) -> Drawn {
        let (chart_area, legend_area) = area.split_vertically(px(f64::from(SIZE.1)));
        let (x, y) = self.ticks();
        let widest =
            y.places.iter().map(|&place| picture::width(&y.text(place), LETTERS)).fold(0.0, f64::max);
        let mut chart = ChartBuilder::on(&chart_area)
            .margin_top(px(6.0))
            .margin_right(px(14.0))
            .margin_left(px(6.0))
            .x_label_area_size(px(40.0))
            .y_label_area_size(px(26.0 + widest))
            .build_cartesian_2d(x.clone(), y.clone())?;
        chart
            .configure_mesh()
            .x_desc(self.x.label())
            .y_desc(self.y.label())
            .x_label_formatter(&|&place| x.text(place))
            .y_label_formatter(&|&place| y.text(place))
            .label_style(text(LETTERS, MUTED))
            .axis_desc_style(text(LETTERS, INK))
            .axis_style(line(MUTED, 1.0))
            .bold_line_style(line(GRID, 1.0))
            .light_line_style(TRANSPARENT)
            .set_all_tick_mark_size(px(3.0))
            .draw()?;
        if let Some(place) = self.baseline.as_ref().and_then(|(_, value)| self.y.place(*value)) {
            let ends = [(x.low, place), (x.high, place)];
            chart.draw_series(DashedLineSeries::new(ends, px(6.0), px(4.0), line(BASELINE, 1.5)))?;
        }
        for series in &self.series {
            let place = |&(a, b): &(f64, f64)| Some((self.x.place(a)?, self.y.place(b)?));
            let places: Vec<_> = series.points.iter().map(place).collect();
            let shown = || places.iter().flatten().copied();
            if series.line {
                chart.draw_series(LineSeries::new(shown(), line(series.colour, 1.75)))?;
            }
            if series.marks {
                let mark = |place| Circle::new(place, px(3.0), series.colour.rgb().filled());
                chart.draw_series(shown().map(mark))?;
            }
            // Below and to the right, a line that rises leaves room.
            for (place, label) in places.iter().zip(&series.labels) {
                let &Some(place) = place else { continue };
                let offset = (px(3.0), px(11.0));
                let style = anchored(LETTERS - 2.0, MUTED, HPos::Left);
                let label = Text::new(label.clone(), offset, style);
                chart.draw_series([EmptyElement::at(place) + label])?;
            }
        }
        self.draw_legend(&legend_area)
    }

    fn ticks(&self) -> (Ticks, Ticks) {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let baseline = self.baseline.iter().map(|(_, value)| *value);
        let x = self.x.ticks(points().map(|p| p.0), 12);
        let mut y = self.y.ticks(points().map(|p| p.1).chain(baseline), 8);
        if self.series.iter().any(|series| !series.labels.is_empty()) {
            // Room for the label of the lowest point.
            y.low -= 0.05 * (y.high - y.low);
        }
        (x, y)
    }

    /// How many names are in a line of the legend, and how many lines there are.
    fn legend(&self) -> (usize, usize) {
        let names = self.names();
        if names.is_empty() {
            return (1, 0);
        }
        let widest = names.iter().map(|(name, ..)| picture::width(name, LETTERS)).fold(0.0, f64::max);
        let fit = (f64::from(SIZE.0) - 20.0) / (widest + SWATCH + 14.0);
        let columns = (fit as usize).clamp(1, names.len());
        (columns, names.len().div_ceil(columns))
    }

    /// Names with colour, and whether the line is dashed.
    fn names(&self) -> Vec<(&str, Colour, bool)> {
        let series = self.series.iter().map(|series| (series.name.as_str(), series.colour, false));
        let baseline = self.baseline.iter().map(|(name, _)| (name.as_str(), BASELINE, true));
        series.chain(baseline).collect()
    }

    fn draw_legend(&self, area: &Area) -> Drawn {
        let (columns, _) = self.legend();
        let column = (f64::from(SIZE.0) - 20.0) / columns as f64;
        for (index, (name, colour, dashed)) in self.names().into_iter().enumerate() {
            let x = 12.0 + column * (index % columns) as f64;
            let y = LEGEND_LINE * ((index / columns) as f64 + 0.5);
            let dash = |from: f64, to: f64| {
                PathElement::new([(px(x + from), px(y)), (px(x + to), px(y))], line(colour, 2.5))
            };
            match dashed {
                true => [dash(0.0, 7.0), dash(11.0, 18.0)].iter().try_for_each(|dash| area.draw(dash))?,
                false => area.draw(&dash(0.0, 18.0))?,
            }
            let place = (px(x + SWATCH), px(y));
            area.draw(&Text::new(name.to_owned(), place, anchored(LETTERS, INK, HPos::Left)))?;
        }
        Ok(())
    }
}
