//! A computation that the driver launches as a whole: a CUDA graph.
//!
//! A pass of a small network takes the host longer than the GPU: dozens of launches of some microseconds each. [`Replay`]
//! runs a computation once, has the driver write down what it launches, and from then on launches all of it in one call
//! (docs/adr/0064-cuda-graphs.md).

use std::sync::{PoisonError, RwLock};

use candle_core::cuda_backend::cudarc::driver::CudaGraph;
use candle_core::cuda_backend::cudarc::driver::sys::{
    CUgraphInstantiate_flags, CUstreamCaptureMode, cuMemPoolTrimTo,
};
use candle_core::cuda_backend::{CudaDevice, WrapErr};
use candle_core::{Result, Tensor};

use super::default_pool;

/// While a thread has the driver write down what it launches, no other may wait for the whole device: the driver forbids
/// it, and drops what was written down.
static WRITING_DOWN: RwLock<()> = RwLock::new(());

/// Calls `wait`, which waits for a whole device, at a time when no [`Replay`] is made.
pub fn with_no_replay_in_the_making<T>(wait: impl FnOnce() -> T) -> T {
    let _nobody = WRITING_DOWN.read().unwrap_or_else(PoisonError::into_inner);
    wait()
}

/// A computation from one tensor to another, of fixed shapes, that is launched as a whole.
///
/// It belongs to the thread that made it: its memory is used in the order of that thread's stream.
pub struct Replay {
    graph: CudaGraph,
    /// Where the graph's first kernel reads, and where its last one writes.
    input: Tensor,
    output: Tensor,
}

// SAFETY: the driver lets any thread use or destroy a graph, if no two do so at a time; whoever has it alone or by `&mut`
// is one. `run` takes `&mut self`.
unsafe impl Send for Replay {}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Replay({:?} to {:?})", self.input.shape(), self.output.shape())
    }
}

impl Replay {
    /// Computes the result for `xs` and, so that it can be done again for other numbers of the same shape, makes a replay;
    /// `None` if the driver cannot replay it. `compute` is called twice, the second time without anything being
    /// computed. What it asks of the host must be the same each time: lengths and indices, not data.
    ///
    /// # Errors
    /// Those of `compute`, when it is called first.
    pub fn make<E: From<candle_core::Error>>(
        xs: &Tensor,
        compute: impl Fn(&Tensor) -> std::result::Result<Tensor, E>,
    ) -> std::result::Result<(Option<Self>, Tensor), E> {
        let device = xs.device().as_cuda_device()?.clone();
        // candle keeps on the device what it copies there: lengths and strides of tensors.
        let _kept = device.enable_cuda_graph_htod_cache();
        let input = xs.copy()?;
        let result = compute(&input)?;
        let output = result.copy()?;
        let written = Self::write_down(&device, || {
            let ys = compute(&input).map_err(|_| Refused)?;
            output.slice_set(&ys, 0, 0).map_err(|_| Refused)
        });
        Ok((written.ok().map(|graph| Self { graph, input, output }), result))
    }

    /// What `launch` launches, none of which runs.
    fn write_down(
        device: &CudaDevice,
        launch: impl FnOnce() -> std::result::Result<(), Refused>,
    ) -> std::result::Result<CudaGraph, Refused> {
        let _alone = WRITING_DOWN.write().unwrap_or_else(PoisonError::into_inner);
        let stream = device.cuda_stream();
        let context = stream.context().clone();
        // A graph has memory of its own, which is taken from what the pool does not use.
        if let Some(pool) = default_pool(&context) {
            stream.synchronize().map_err(|_| Refused)?;
            // SAFETY: the pool is there as long as the device. What cannot be given back stays.
            let _ = unsafe { cuMemPoolTrimTo(pool, 0) };
        }
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        stream.begin_capture(mode).map_err(|_| Refused)?;
        let launched = launch();
        let graph = stream.end_capture(CUgraphInstantiate_flags(0));
        let graph = match (launched, graph) {
            (Ok(()), Ok(Some(graph))) => graph,
            _ => {
                // What failed between the two is not the failure of what comes next.
                let _ = context.check_err();
                return Err(Refused);
            }
        };
        graph.upload().map_err(|_| Refused)?;
        Ok(graph)
    }

    /// The result for other numbers.
    ///
    /// # Shapes
    /// `xs` has the shape that the replay was made with.
    ///
    /// # Errors
    /// candle's, for another shape, type or device; the driver's.
    pub fn run(&mut self, xs: &Tensor) -> Result<Tensor> {
        self.input.slice_set(&xs.contiguous()?, 0, 0)?;
        self.graph.launch().w()?;
        self.output.copy()
    }
}

/// The driver does not replay this.
#[derive(Debug)]
struct Refused;
