//! Loss and accuracy over the epochs, as a picture.

use anyhow::Result;
use approx_report::{Axis, Colour, Scale, Series, XyPlot};

use crate::history::{EpochRecord, Means};

/// An SVG of the history: the loss on the left, the accuracy in percent on the right.
pub fn svg(title: &str, history: &[EpochRecord]) -> Result<String> {
    let loss = plot("loss", history, |means| means.loss);
    let accuracy = plot("accuracy (%)", history, |means| 100.0 * means.accuracy);
    Ok(XyPlot::draw_row(title, &[&loss, &accuracy])?.file())
}

fn plot(name: &str, history: &[EpochRecord], value: impl Fn(&Means) -> f64) -> XyPlot {
    let points = |means: fn(&EpochRecord) -> &Means| {
        history.iter().map(|record| (record.epoch as f64, value(means(record)))).collect()
    };
    let series = |name: &str, index: usize, points: Vec<(f64, f64)>| {
        // Many marks would be a thick line.
        let few = points.len() <= 40;
        let series = Series::new(name, Colour::series(index), points);
        if few { series } else { series.without_marks() }
    };
    XyPlot::new(Axis::new("epoch", Scale::Whole), Axis::new(name, Scale::Linear))
        .with(series("training", 0, points(|record| &record.train)))
        .with(series("test", 1, points(|record| &record.test)))
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
