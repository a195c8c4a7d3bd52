//! GoogLeNet (Szegedy et al., "Going Deeper with Convolutions", arXiv 1409.4842, table 1), as torchvision has it:
//! batch norm behind each convolution, max-pooling in ceil mode, and 3×3 convolutions where the paper has 5×5.

use approx_ops::PoolSpec;
use candle_core::Tensor;

use crate::builder::NetBuilder;
use crate::error::Result;
use crate::inception::{ConvRelu, rescale};
use crate::layers::{ConvSpec, Linear, MaxPool, concatenate, global_average};
use crate::network::Forward;

/// A GoogLeNet for images of about 224×224, without its auxiliary heads.
pub struct GoogLeNet {
    stem: [ConvRelu; 3],
    stem_pools: [MaxPool; 2],
    stages: Vec<Stage>,
    fc: Linear,
}

/// Inception modules up to the next max-pooling.
struct Stage {
    modules: Vec<Module>,
    pool: Option<MaxPool>,
}

/// A line of the paper's table: the module's name, and the channels of the 1×1 convolution, of the reduction
/// and the convolution of the second and the third branch, and of the one behind the pooling.
type Row = (&'static str, usize, [usize; 2], [usize; 2], usize);

#[rustfmt::skip]
const STAGES: [&[Row]; 3] = [
    &[
        ("inception3a",  64, [ 96, 128], [16,  32],  32),
        ("inception3b", 128, [128, 192], [32,  96],  64),
    ],
    &[
        ("inception4a", 192, [ 96, 208], [16,  48],  64),
        ("inception4b", 160, [112, 224], [24,  64],  64),
        ("inception4c", 128, [128, 256], [24,  64],  64),
        ("inception4d", 112, [144, 288], [32,  64],  64),
        ("inception4e", 256, [160, 320], [32, 128], 128),
    ],
    &[
        ("inception5a", 256, [160, 320], [32, 128], 128),
        ("inception5b", 384, [192, 384], [48, 128], 128),
    ],
];

impl GoogLeNet {
    /// # Errors
    /// The builder's.
    pub fn new(b: &NetBuilder, classes: usize) -> Result<Self> {
        b.ignore("aux1");
        b.ignore("aux2");
        let pool = |name: &str, kernel| -> Result<MaxPool> {
            Ok(b.max_pool(name, PoolSpec::new(kernel, 2, 0)?.with_ceil_mode(true)))
        };
        let conv1 = ConvRelu::new(b, "conv1", ConvSpec::same(3, 64, 7).with_stride(2))?;
        let maxpool1 = pool("maxpool1", 3)?;
        let conv2 = ConvRelu::new(b, "conv2", ConvSpec::same(64, 64, 1))?;
        let conv3 = ConvRelu::new(b, "conv3", ConvSpec::same(64, 192, 3))?;
        let maxpool2 = pool("maxpool2", 3)?;
        let mut inputs = 192;
        let mut stages = Vec::new();
        for (rows, end) in STAGES.iter().zip([Some(("maxpool3", 3)), Some(("maxpool4", 2)), None]) {
            let mut modules = Vec::new();
            for row in *rows {
                modules.push(b.pp(row.0, |b| Module::new(b, inputs, row))?);
                inputs = row.1 + row.2[1] + row.3[1] + row.4;
            }
            stages.push(Stage { modules, pool: end.map(|(name, kernel)| pool(name, kernel)).transpose()? });
        }
        Ok(Self {
            stem: [conv1, conv2, conv3],
            stem_pools: [maxpool1, maxpool2],
            stages,
            fc: b.linear("fc", inputs, classes)?,
        })
    }
}

impl Forward for GoogLeNet {
    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let [conv1, conv2, conv3] = &self.stem;
        let [maxpool1, maxpool2] = &self.stem_pools;
        let xs = conv1.forward(&rescale(images)?)?; // [N, 64, 112, 112]
        let xs = maxpool1.forward(&xs)?; // [N, 64, 56, 56]
        let xs = conv3.forward(&conv2.forward(&xs)?)?; // [N, 192, 56, 56]
        let mut xs = maxpool2.forward(&xs)?; // [N, 192, 28, 28]
        for stage in &self.stages {
            for module in &stage.modules {
                xs = module.forward(&xs)?; // … 480 … 832 … 1024 channels
            }
            if let Some(pool) = &stage.pool {
                xs = pool.forward(&xs)?; // [N, 480, 14, 14], [N, 832, 7, 7]
            }
        }
        self.fc.forward(&global_average(&xs)?) // [N, 1024] → [N, classes]
    }
}

/// An inception module: four branches, joined.
struct Module {
    branch1: ConvRelu,
    branch2: [ConvRelu; 2],
    branch3: [ConvRelu; 2],
    branch4: (MaxPool, ConvRelu),
}

impl Module {
    fn new(b: &NetBuilder, inputs: usize, row: &Row) -> Result<Self> {
        let (_, one, two, three, four) = *row;
        let reduced = |name: &str, [reduction, outputs]: [usize; 2]| {
            b.pp(name, |b| -> Result<_> {
                let first = ConvRelu::new(b, "0", ConvSpec::same(inputs, reduction, 1))?;
                Ok([first, ConvRelu::new(b, "1", ConvSpec::same(reduction, outputs, 3))?])
            })
        };
        Ok(Self {
            branch1: ConvRelu::new(b, "branch1", ConvSpec::same(inputs, one, 1))?,
            branch2: reduced("branch2", two)?,
            branch3: reduced("branch3", three)?,
            branch4: b.pp("branch4", |b| -> Result<_> {
                let pool = b.max_pool("0", PoolSpec::new(3, 1, 1)?.with_ceil_mode(true));
                Ok((pool, ConvRelu::new(b, "1", ConvSpec::same(inputs, four, 1))?))
            })?,
        })
    }

    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let two = |[first, second]: &[ConvRelu; 2]| second.forward(&first.forward(xs)?);
        let (pool, conv) = &self.branch4;
        concatenate(&[
            self.branch1.forward(xs)?,
            two(&self.branch2)?,
            two(&self.branch3)?,
            conv.forward(&pool.forward(xs)?)?,
        ])
    }
}
