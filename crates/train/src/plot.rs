//! Loss and accuracy over the epochs, as a picture.

use anyhow::{Result, anyhow};
use plotters::chart::SeriesLabelPosition;
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::history::{EpochRecord, Means};

const SIZE: (u32, u32) = (960, 420);
const TRAIN: RGBColor = RGBColor(31, 119, 180);
const TEST: RGBColor = RGBColor(214, 39, 40);

/// An SVG of the history: the loss on the left, the accuracy in percent on the right.
pub fn svg(title: &str, history: &[EpochRecord]) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        // Its errors borrow the drawing.
        let draw = || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
            root.fill(&WHITE)?;
            let root = root.titled(title, ("sans-serif", 20))?;
            let (left, right) = root.split_horizontally(SIZE.0 / 2);
            panel(&left, ("loss", SeriesLabelPosition::UpperRight), history, |means| means.loss)?;
            let place = SeriesLabelPosition::LowerRight;
            panel(&right, ("accuracy (%)", place), history, |means| 100.0 * means.accuracy)?;
            root.present()?;
            Ok(())
        };
        draw().map_err(|error| anyhow!("drawing the history: {error}"))?;
    }
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn panel(
    area: &Area,
    (name, legend): (&str, SeriesLabelPosition),
    history: &[EpochRecord],
    value: impl Fn(&Means) -> f64,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let lines = [("training", TRAIN, false), ("test", TEST, true)].map(|(label, colour, test)| {
        let point = |record: &EpochRecord| {
            (record.epoch as f64, value(if test { &record.test } else { &record.train }))
        };
        (label, colour, history.iter().map(point).collect::<Vec<_>>())
    });
    let values = || lines.iter().flat_map(|(_, _, points)| points.iter().map(|point| point.1));
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    let margin = (0.05 * (high - low)).max(1e-3);
    let last = history.last().map_or(1, |record| record.epoch).max(2) as f64;
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(56)
        .build_cartesian_2d(1.0..last, (low - margin).max(0.0)..high + margin)?;
    chart
        .configure_mesh()
        .x_desc("epoch")
        .y_desc(name)
        .x_labels(last.min(10.0) as usize)
        .x_label_formatter(&|epoch| format!("{epoch:.0}"))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (label, colour, points) in lines {
        let marks = points.iter().map(|&point| Circle::new(point, 2, colour.filled()));
        chart.draw_series(marks)?;
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(legend)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_of_any_length_is_drawn_the_same_each_time() {
        let record = |epoch: usize| {
            let means =
                Means { loss: 2.0 / epoch as f64, accuracy: 1.0 - 0.5 / epoch as f64, out_of_range: 0 };
            EpochRecord { epoch, lr: 1e-3, train: means, penalty: 0.0, test: means }
        };
        for epochs in [1, 2, 200] {
            let history: Vec<_> = (1..=epochs).map(record).collect();
            let picture = svg("resnet20 on CIFAR-10", &history).unwrap();
            assert!(picture.starts_with("<svg ") && picture.trim_end().ends_with("</svg>"), "{picture}");
            for text in ["resnet20 on CIFAR-10", "loss", "accuracy (%)", "training", "test", "epoch"] {
                assert!(picture.contains(text), "{epochs}: {text}");
            }
            assert_eq!(picture, svg("resnet20 on CIFAR-10", &history).unwrap());
        }
    }
}
