//! Passes on a GPU that are launched as a whole.

use std::sync::{Mutex, PoisonError};
use std::thread::{self, ThreadId};

use approx_ops::RangeSlots;
use candle_core::{DeviceLocation, Tensor};
use cnn_kernels::cuda::Replay;

use crate::error::Result;

/// The replay of a network's pass, once it is worth one: for a batch of the shape that the last one had.
#[derive(Debug, Default)]
pub(crate) struct Replays(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    recorded: Option<Recorded>,
    /// What the last pass was.
    last: Option<Key>,
    /// What the driver cannot replay.
    refused: Option<Key>,
}

/// What two passes have in common if one can be a replay of the other: shape and device of the images, and the thread,
/// since each has its own stream.
#[derive(Debug, Clone, PartialEq)]
struct Key(Vec<usize>, DeviceLocation, ThreadId);

#[derive(Debug)]
struct Recorded {
    key: Key,
    replay: Replay,
    slots: RangeSlots,
}

impl Replays {
    /// Forgets the replay: the network is another one from now on.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// `pass` of `images`. The second one in a row of a shape is written down, and the next ones are replays of it.
    pub(crate) fn forward(
        &self,
        images: &Tensor,
        pass: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = Key(images.dims().to_vec(), images.device().location(), thread::current().id());
        let is_second = state.last.replace(key.clone()).is_some_and(|last| last == key);
        if state.refused.as_ref() == Some(&key) {
            return pass(images);
        }
        if let Some(recorded) = state.recorded.as_mut().filter(|recorded| recorded.key == key) {
            match recorded.run(images) {
                Some(Ok(logits)) => return Ok(logits),
                // The slots are elsewhere: a new one, for them.
                None => state.recorded = None,
                // Such as no memory for it. If the device fails, the pass will say so.
                Some(Err(_)) => {
                    state.recorded = None;
                    state.refused = Some(key);
                    return pass(images);
                }
            }
        }
        if !is_second {
            return pass(images);
        }
        // Its memory first.
        state.recorded = None;
        let (replay, logits) = Replay::make(images, &pass)?;
        match replay {
            None => state.refused = Some(key),
            Some(replay) => {
                let slots = RangeSlots::of(images.device())?;
                state.recorded = Some(Recorded { key, replay, slots });
            }
        }
        Ok(logits)
    }

    /// Whether the next pass of such images will be a replay.
    pub(crate) fn is_recorded(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).recorded.is_some()
    }
}

impl Recorded {
    fn run(&mut self, images: &Tensor) -> Option<candle_core::Result<Tensor>> {
        let Self { replay, slots, .. } = self;
        slots.write(|| replay.run(images))
    }
}
