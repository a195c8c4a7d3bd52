//! Where a program runs: the CPU, or a GPU if it was built for them.

use std::fmt;
use std::str::FromStr;

use anyhow::Result;
use candle_core::Device;

/// The options that choose a device.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct DeviceArgs {
    /// Run on this CUDA device, as --device cuda:ID
    #[arg(long, value_name = "ID", conflicts_with = "device")]
    pub gpu: Option<usize>,

    /// Run there [default: a GPU where there is one and the program was built for it, else the CPU]
    #[arg(long, value_name = "cpu|cuda:ID")]
    pub device: Option<DeviceName>,
}

/// A device by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceName {
    /// `cpu`.
    Cpu,
    /// `cuda:ID`, or `cuda` for the first.
    Cuda(usize),
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("cuda") {
            Some("") => Ok(Self::Cuda(0)),
            Some(id) => match id.strip_prefix(':').map(str::parse) {
                Some(Ok(id)) => Ok(Self::Cuda(id)),
                _ => Err("it must be cpu, cuda, or cuda: and a number".to_owned()),
            },
            None if text == "cpu" => Ok(Self::Cpu),
            None => Err("it must be cpu, cuda, or cuda: and a number".to_owned()),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(id) => write!(f, "cuda:{id}"),
        }
    }
}

impl DeviceArgs {
    /// The device that was asked for; if none was, a GPU where there is one, which is said.
    ///
    /// # Errors
    /// A GPU that is not there, or that the program was not built for.
    pub fn open(&self) -> Result<Device> {
        match (self.gpu, self.device) {
            (Some(id), _) => cuda::open(id, &format!("--gpu {id}")),
            (None, Some(DeviceName::Cuda(id))) => cuda::open(id, &format!("--device cuda:{id}")),
            (None, Some(DeviceName::Cpu)) => Ok(Device::Cpu),
            (None, None) => Ok(cuda::choose()),
        }
    }
}

#[cfg(not(feature = "cuda"))]
mod cuda {
    use anyhow::{Result, bail};
    use candle_core::Device;

    pub fn open(_: usize, option: &str) -> Result<Device> {
        let name = option.split(' ').next().unwrap_or_default();
        bail!("{option}: this program was built without CUDA; leave {name} out to run on the CPU")
    }

    pub fn choose() -> Device {
        Device::Cpu
    }
}

#[cfg(feature = "cuda")]
mod cuda {
    use anyhow::{Context, Result, bail};
    use approx_eval::device_name;
    use candle_core::Device;
    use candle_core::cuda_backend::cudarc::driver::CudaContext;
    use cnn_kernels::cuda_device;

    pub fn open(id: usize, option: &str) -> Result<Device> {
        match count().with_context(|| format!("{option}: there is no CUDA device"))? {
            0 => bail!("{option}: there is no CUDA device"),
            count if id >= count => bail!("{option}: the CUDA devices are cuda:0 to cuda:{}", count - 1),
            _ => cuda_device(id).with_context(|| format!("{option}: the device cannot be used")),
        }
    }

    pub fn choose() -> Device {
        let device = match count() {
            Ok(0) => Err(anyhow::anyhow!("there is no CUDA device")),
            Ok(_) => cuda_device(0).context("cuda:0 cannot be used"),
            Err(error) => Err(error.context("there is no CUDA device")),
        };
        match device {
            Ok(device) => {
                eprintln!("note: running on {}; --device cpu runs on the CPU", device_name(&device));
                device
            }
            Err(error) => {
                eprintln!("note: running on the CPU: {error:#}");
                Device::Cpu
            }
        }
    }

    /// How many there are. Fails where there is none at all, or no driver that answers.
    fn count() -> Result<usize> {
        // Before the driver is initialised, it may not even count.
        let count = CudaContext::device_count().map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(usize::try_from(count).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        for (text, name) in
            [("cpu", DeviceName::Cpu), ("cuda", DeviceName::Cuda(0)), ("cuda:12", DeviceName::Cuda(12))]
        {
            assert_eq!(text.parse(), Ok(name));
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        for text in ["", "gpu", "cuda:", "cuda0", "cuda:-1", "cuda:x", "CPU"] {
            assert!(text.parse::<DeviceName>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_cpu_is_always_there() {
        let args = DeviceArgs { gpu: None, device: Some(DeviceName::Cpu) };
        assert!(args.open().unwrap().is_cpu());
    }
}
