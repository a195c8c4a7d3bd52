//! Where kernels write what they saw: a slot on the device for each place that asked, all of a device side by side, so
//! that one copy reads them all.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr};
use candle_core::cuda_backend::{CudaDevice, DeviceId, WrapErr};
use candle_core::{Device, Result};
use cnn_kernels::RangeStats;
use cnn_kernels::cuda::with_no_replay_in_the_making;

use super::Address;

/// 64-bit words of a slot: the largest |x| as float32's bits, in the lower half of the first; how many values were out
/// of range. `Range` in kernels/minimax.cuh.
const WORDS: usize = 2;
/// Slots that there is room for at first.
const CAPACITY: usize = 256;

/// The banks in use. A device's goes with the last of its slots.
static BANKS: Mutex<Vec<(DeviceId, Weak<Bank>)>> = Mutex::new(Vec::new());

/// All slots of a device.
struct Bank {
    device: CudaDevice,
    state: Mutex<State>,
}

struct State {
    words: CudaSlice<u64>,
    /// What was read of each slot and not taken yet.
    read: Vec<RangeStats>,
    free: Vec<u32>,
    /// Whether a kernel was launched since all slots were read.
    is_written: bool,
}

impl fmt::Debug for Bank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bank of {:?}", self.device)
    }
}

impl State {
    fn address(&self, device: &CudaDevice) -> Address {
        let stream = device.cuda_stream();
        let (address, _guard) = self.words.device_ptr(&stream);
        address
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        // Kernels that other threads launched may still write to it. If the device fails, nobody needs what they write.
        let _ = self.device.cuda_stream().context().synchronize();
    }
}

/// The slots of a device as they are now: kernels that were launched with their address can be launched with it again.
#[derive(Debug, Clone)]
pub struct RangeSlots(Option<(Weak<Bank>, Address)>);

impl RangeSlots {
    /// Those of the recorders that were used on `device`.
    ///
    /// # Errors
    /// candle's, for a device that is not CUDA's.
    pub fn of(device: &Device) -> Result<Self> {
        let device = device.as_cuda_device()?;
        let banks = BANKS.lock().unwrap_or_else(PoisonError::into_inner);
        let known = banks.iter().find(|(id, _)| *id == device.id()).map(|(_, bank)| bank.clone());
        Ok(Self(known.and_then(|weak| {
            let address = weak.upgrade()?.lock().address(device);
            Some((weak, address))
        })))
    }

    /// Calls `launch`, which launches kernels that write to these slots: they are waited for before a slot is read. `None`,
    /// and no call, where the slots are elsewhere by now.
    pub fn write<T>(&self, launch: impl FnOnce() -> T) -> Option<T> {
        let Some((bank, address)) = &self.0 else { return Some(launch()) };
        let bank = bank.upgrade()?;
        let mut state = bank.lock();
        if state.address(&bank.device) != *address {
            return None;
        }
        state.is_written = true;
        Some(launch())
    }
}

/// A place's slot.
pub(crate) struct Slot {
    bank: Arc<Bank>,
    index: u32,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({} of {:?})", self.index, self.bank.device)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.bank.lock().free.push(self.index);
    }
}

impl Slot {
    /// A new slot, or one that nobody has any more.
    pub(crate) fn new(device: &CudaDevice) -> Result<Self> {
        with_no_replay_in_the_making(|| Self::take_place(device))
    }

    fn take_place(device: &CudaDevice) -> Result<Self> {
        let bank = Bank::of(device)?;
        let mut state = bank.lock();
        if state.free.is_empty() {
            bank.grow(&mut state)?;
        } else {
            // What its last owner did not take is forgotten.
            bank.read(&mut state)?;
        }
        let index = state.free.pop().expect("there is room now");
        state.read[index as usize] = RangeStats::default();
        drop(state);
        Ok(Self { bank, index })
    }

    /// Whether it is on this device.
    pub(crate) fn is_on(&self, device: &CudaDevice) -> bool {
        self.bank.device.id() == device.id()
    }

    /// Calls `launch` with the address of all slots and the index of this one: a kernel that is launched there is waited
    /// for before the slot is read.
    pub(crate) fn write<T>(&self, launch: impl FnOnce(Address, u32) -> Result<T>) -> Result<T> {
        let mut state = self.bank.lock();
        state.is_written = true;
        launch(state.address(&self.bank.device), self.index)
    }

    /// What kernels wrote since the last call. If a kernel was launched since any slot was read, waits for the device and
    /// reads all slots, once for all.
    pub(crate) fn take(&self) -> Result<RangeStats> {
        with_no_replay_in_the_making(|| {
            let mut state = self.bank.lock();
            self.bank.read(&mut state)?;
            Ok(std::mem::take(&mut state.read[self.index as usize]))
        })
    }
}

impl Bank {
    /// The device's bank, made if there is none.
    fn of(device: &CudaDevice) -> Result<Arc<Self>> {
        let mut banks = BANKS.lock().unwrap_or_else(PoisonError::into_inner);
        banks.retain(|(_, bank)| bank.strong_count() > 0);
        let known = banks.iter().find(|(id, _)| *id == device.id()).and_then(|(_, bank)| bank.upgrade());
        if let Some(bank) = known {
            return Ok(bank);
        }
        let state = State {
            words: zeros(device, CAPACITY)?,
            read: vec![RangeStats::default(); CAPACITY],
            free: (0..CAPACITY as u32).rev().collect(),
            is_written: false,
        };
        let bank = Arc::new(Self { device: device.clone(), state: Mutex::new(state) });
        banks.push((device.id(), Arc::downgrade(&bank)));
        Ok(bank)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what kernels wrote, and zeroes it. Kernels are launched with the lock held, so none comes in between.
    fn read(&self, state: &mut State) -> Result<()> {
        if !state.is_written {
            return Ok(());
        }
        let stream = self.device.cuda_stream();
        // The whole device and not the stream, because each thread has a stream of its own under the same handle.
        stream.context().synchronize().w()?;
        let words = stream.clone_dtoh(&state.words).w()?;
        stream.memset_zeros(&mut state.words).w()?;
        stream.synchronize().w()?;
        state.is_written = false;
        for (stats, words) in state.read.iter_mut().zip(words.chunks_exact(WORDS)) {
            let max_abs = f32::from_bits(words[0] as u32);
            *stats = stats.merge(RangeStats { max_abs, out_of_range: words[1] });
        }
        Ok(())
    }

    /// Makes room for twice as many.
    fn grow(&self, state: &mut State) -> Result<()> {
        self.read(state)?;
        let old = state.read.len();
        state.words = zeros(&self.device, 2 * old)?;
        state.read.resize(2 * old, RangeStats::default());
        state.free.extend((old as u32..2 * old as u32).rev());
        Ok(())
    }
}

/// Empty slots, on the device when this returns.
fn zeros(device: &CudaDevice, slots: usize) -> Result<CudaSlice<u64>> {
    let words = device.alloc_zeros(slots * WORDS)?;
    device.cuda_stream().synchronize().w()?;
    Ok(words)
}
