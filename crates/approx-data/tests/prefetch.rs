//! The thread that loads ahead: order, bounds and endings.

use std::ops::{ControlFlow, Range};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use approx_data::{Batch, DataError, ImageSource, Normalization, RawBatch, Skipped, prefetch};
use candle_core::Device;

/// Pixels equal to the index; some images cannot be read.
struct Source {
    len: usize,
    loads: AtomicUsize,
    fails_at: usize,
    panics_at: usize,
    skips: Range<usize>,
}

impl Default for Source {
    fn default() -> Self {
        Self { len: 20, loads: AtomicUsize::new(0), fails_at: 99, panics_at: 99, skips: 99..99 }
    }
}

impl ImageSource for Source {
    fn len(&self) -> usize {
        self.len
    }

    fn classes(&self) -> usize {
        1000
    }

    fn shape(&self) -> [usize; 3] {
        [3, 1, 2]
    }

    fn load(&self, range: Range<usize>) -> Result<RawBatch, DataError> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let mut batch = RawBatch::default();
        for index in range {
            assert!(index != self.panics_at, "the source broke");
            let name = index.to_string();
            if index == self.fails_at {
                return Err(DataError::Undecodable { name, reason: "is torn".to_owned() });
            }
            if self.skips.contains(&index) {
                batch.skipped.push(Skipped { name, reason: "is torn".to_owned() });
                continue;
            }
            batch.pixels.extend([index as u8; 6]);
            batch.labels.push(900 + index as u16);
        }
        Ok(batch)
    }
}

fn plain() -> Normalization {
    Normalization::new(vec![0.0; 3], vec![1.0 / 255.0; 3])
}

fn run(
    source: &Source,
    size: usize,
    consume: impl FnMut(usize, Batch) -> Result<ControlFlow<()>, DataError>,
) -> Result<(), DataError> {
    prefetch(source, &source.batches(size), &plain(), &Device::Cpu, consume)
}

const GO_ON: Result<ControlFlow<()>, DataError> = Ok(ControlFlow::Continue(()));

#[test]
fn batches_come_in_order_and_whole() {
    let source = Source { skips: 3..7, ..Source::default() };
    let (mut seen, mut skipped, mut empty) = (Vec::new(), Vec::new(), 0);
    run(&source, 3, |index, batch| {
        assert_eq!(index, (seen.len() + skipped.len()) / 3);
        match &batch.images {
            Some(images) => {
                assert_eq!(images.dims(), [batch.labels.len(), 3, 1, 2]);
                let values: Vec<f32> = images.flatten_all()?.to_vec1()?;
                for (image, &label) in values.chunks(6).zip(&batch.labels) {
                    assert!(image.iter().all(|&v| (v - f32::from(label - 900)).abs() < 1e-4), "{image:?}");
                }
            }
            None => empty += 1,
        }
        seen.extend(batch.labels);
        skipped.extend(batch.skipped.into_iter().map(|s| s.name));
        GO_ON
    })
    .unwrap();
    assert_eq!(seen, [900, 901, 902].into_iter().chain(907..920).collect::<Vec<_>>());
    assert_eq!((skipped, empty), (["3", "4", "5", "6"].map(str::to_owned).to_vec(), 1));
}

#[test]
fn the_loader_is_at_most_two_batches_ahead() {
    let source = Source::default();
    run(&source, 1, |index, _| {
        thread::sleep(Duration::from_millis(10));
        let ahead = source.loads.load(Ordering::SeqCst) - (index + 1);
        assert!(ahead <= 2, "{ahead}");
        GO_ON
    })
    .unwrap();
    assert_eq!(source.loads.into_inner(), 20);
}

#[test]
fn no_ranges_are_no_calls() {
    let source = Source { len: 0, ..Source::default() };
    run(&source, 4, |_, _| unreachable!()).unwrap();
}

#[test]
fn an_error_of_the_loader_comes_in_its_place() {
    let source = Source { fails_at: 7, ..Source::default() };
    let mut calls = 0;
    let error = run(&source, 2, |_, _| {
        calls += 1;
        GO_ON
    });
    assert_eq!((calls, error.unwrap_err().to_string().as_str()), (3, "7: is torn"));
    assert_eq!(source.loads.into_inner(), 4);
}

#[test]
fn the_loader_ends_with_the_consumer() {
    let torn = || DataError::Undecodable { name: "here".to_owned(), reason: "enough".to_owned() };
    for (result, expected) in [(Ok(ControlFlow::Break(())), None), (Err(torn()), Some("here: enough"))] {
        let source = Source::default();
        let mut result = Some(result);
        let ended = run(&source, 1, |index, _| if index == 4 { result.take().unwrap() } else { GO_ON });
        assert_eq!(ended.err().map(|e| e.to_string()).as_deref(), expected);
        assert!(source.loads.into_inner() <= 7);
    }
}

#[test]
fn panics_of_either_side_are_passed_on() {
    for (panics_at, expected) in [(99, "the consumer broke"), (5, "the source broke")] {
        let source = Source { panics_at, ..Source::default() };
        let payload = catch_unwind(AssertUnwindSafe(|| {
            run(&source, 1, |index, _| {
                assert!(index < 8, "the consumer broke");
                GO_ON
            })
        }))
        .unwrap_err();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&expected));
        assert!(source.loads.into_inner() <= 11);
    }
}
