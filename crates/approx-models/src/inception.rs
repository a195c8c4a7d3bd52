//! Inception-v3 (Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", arXiv 1512.00567,
//! table 1), as torchvision has it.

use approx_ops::PoolSpec;
use candle_core::Tensor;

use crate::builder::NetBuilder;
use crate::error::Result;
use crate::layers::{Conv2d, ConvSpec, Linear, MaxPool, Relu, average_3x3, concatenate, global_average};
use crate::network::Forward;

/// What these networks' batch norm adds to the variance.
const EPS: f64 = 1e-3;

/// An Inception-v3 for images of about 299×299, without its auxiliary head.
pub struct InceptionV3 {
    stem: [ConvRelu; 3],
    maxpool1: MaxPool,
    reduction: [ConvRelu; 2],
    maxpool2: MaxPool,
    modules: Vec<Module>,
    fc: Linear,
}

impl InceptionV3 {
    /// # Errors
    /// The builder's.
    pub fn new(b: &NetBuilder, classes: usize) -> Result<Self> {
        b.ignore("AuxLogits");
        let plain = |inputs, outputs, kernel: usize| ConvSpec::new(inputs, outputs, (kernel, kernel));
        let stem = [
            ConvRelu::new(b, "Conv2d_1a_3x3", plain(3, 32, 3).with_stride(2))?,
            ConvRelu::new(b, "Conv2d_2a_3x3", plain(32, 32, 3))?,
            ConvRelu::new(b, "Conv2d_2b_3x3", ConvSpec::same(32, 64, 3))?,
        ];
        let maxpool1 = b.max_pool("maxpool1", PoolSpec::new(3, 2, 0)?);
        let reduction = [
            ConvRelu::new(b, "Conv2d_3b_1x1", plain(64, 80, 1))?,
            ConvRelu::new(b, "Conv2d_4a_3x3", plain(80, 192, 3))?,
        ];
        let maxpool2 = b.max_pool("maxpool2", PoolSpec::new(3, 2, 0)?);
        let modules = vec![
            b.pp("Mixed_5b", |b| Module::a(b, 192, 32))?, // 256 channels
            b.pp("Mixed_5c", |b| Module::a(b, 256, 64))?, // 288
            b.pp("Mixed_5d", |b| Module::a(b, 288, 64))?,
            b.pp("Mixed_6a", |b| Module::b(b, 288))?, // 768
            b.pp("Mixed_6b", |b| Module::c(b, 768, 128))?,
            b.pp("Mixed_6c", |b| Module::c(b, 768, 160))?,
            b.pp("Mixed_6d", |b| Module::c(b, 768, 160))?,
            b.pp("Mixed_6e", |b| Module::c(b, 768, 192))?,
            b.pp("Mixed_7a", |b| Module::d(b, 768))?,  // 1280
            b.pp("Mixed_7b", |b| Module::e(b, 1280))?, // 2048
            b.pp("Mixed_7c", |b| Module::e(b, 2048))?,
        ];
        Ok(Self { stem, maxpool1, reduction, maxpool2, modules, fc: b.linear("fc", 2048, classes)? })
    }
}

impl Forward for InceptionV3 {
    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let mut xs = rescale(images)?; // [N, 3, 299, 299]
        for conv in &self.stem {
            xs = conv.forward(&xs)?; // [N, 32, 149, 149], [N, 32, 147, 147], [N, 64, 147, 147]
        }
        xs = self.maxpool1.forward(&xs)?; // [N, 64, 73, 73]
        for conv in &self.reduction {
            xs = conv.forward(&xs)?; // [N, 80, 73, 73], [N, 192, 71, 71]
        }
        xs = self.maxpool2.forward(&xs)?; // [N, 192, 35, 35]
        for module in &self.modules {
            xs = module.forward(&xs)?; // … [N, 768, 17, 17] … [N, 2048, 8, 8]
        }
        self.fc.forward(&global_average(&xs)?) // [N, classes]
    }
}

/// From images normalised by ImageNet's mean and standard deviation to a range of -1 to 1, with which these
/// networks were trained: torchvision's `transform_input`.
///
/// # Shapes
/// `images`: `[N, 3, H, W]`; the result has the same.
pub(crate) fn rescale(images: &Tensor) -> Result<Tensor> {
    const MEAN: [f64; 3] = [0.485, 0.456, 0.406];
    const STD: [f64; 3] = [0.229, 0.224, 0.225];
    let per_channel =
        |values: [f64; 3]| Tensor::new(&values.map(|v| v as f32), images.device())?.reshape((1, 3, 1, 1));
    let factor = per_channel(STD.map(|std| std / 0.5))?;
    let shift = per_channel(MEAN.map(|mean| (mean - 0.5) / 0.5))?;
    Ok(images.broadcast_mul(&factor)?.broadcast_add(&shift)?)
}

/// A convolution without bias, batch norm and ReLU, under one name.
pub(crate) struct ConvRelu {
    conv: Conv2d,
    relu: Relu,
}

impl ConvRelu {
    pub(crate) fn new(b: &NetBuilder, name: &str, spec: ConvSpec) -> Result<Self> {
        b.pp(name, |b| Ok(Self { conv: b.conv_bn("conv", "bn", spec.with_eps(EPS))?, relu: b.relu("relu") }))
    }

    pub(crate) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.conv.forward_relu(xs, None, &self.relu)
    }
}

/// An inception module: branches side by side, joined.
struct Module(Vec<Branch>);

/// Layers one after the other, then perhaps two side by side, joined.
struct Branch {
    layers: Vec<Layer>,
    fork: Option<[ConvRelu; 2]>,
}

enum Layer {
    Conv(ConvRelu),
    MaxPool(MaxPool),
    Average3x3,
}

impl Layer {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        match self {
            Self::Conv(conv) => conv.forward(xs),
            Self::MaxPool(pool) => pool.forward(xs),
            Self::Average3x3 => average_3x3(xs),
        }
    }
}

/// How a convolution goes over the image.
#[derive(Clone, Copy)]
enum Kernel {
    /// Height and width, padded so that the image keeps its size.
    Same(usize, usize),
    /// 3×3 with stride 2, without padding.
    Halve,
}

use Kernel::{Halve, Same};

/// A convolution's name, output channels and kernel.
type Row = (&'static str, usize, Kernel);

fn conv(b: &NetBuilder, inputs: usize, (name, outputs, kernel): Row) -> Result<ConvRelu> {
    let spec = match kernel {
        Same(height, width) => {
            ConvSpec::new(inputs, outputs, (height, width)).with_padding((height / 2, width / 2))
        }
        Halve => ConvSpec::new(inputs, outputs, (3, 3)).with_stride(2),
    };
    ConvRelu::new(b, name, spec)
}

impl Branch {
    /// Convolutions one after the other.
    fn convs(b: &NetBuilder, inputs: usize, rows: &[Row]) -> Result<Self> {
        let mut inputs = inputs;
        let mut layers = Vec::with_capacity(rows.len());
        for &row in rows {
            layers.push(Layer::Conv(conv(b, inputs, row)?));
            inputs = row.1;
        }
        Ok(Self { layers, fork: None })
    }

    /// The same, and then two that both take the last one's output.
    fn forked(b: &NetBuilder, inputs: usize, rows: &[Row], fork: [Row; 2]) -> Result<Self> {
        let inputs_of_fork = rows.last().map_or(inputs, |row| row.1);
        let branch = Self::convs(b, inputs, rows)?;
        let [first, second] = fork;
        let fork = [conv(b, inputs_of_fork, first)?, conv(b, inputs_of_fork, second)?];
        Ok(Self { fork: Some(fork), ..branch })
    }

    /// The mean of each 3×3 window, then a 1×1 convolution.
    fn average(b: &NetBuilder, inputs: usize, outputs: usize) -> Result<Self> {
        let conv = conv(b, inputs, ("branch_pool", outputs, Same(1, 1)))?;
        Ok(Self { layers: vec![Layer::Average3x3, Layer::Conv(conv)], fork: None })
    }

    /// A max-pooling that halves the image.
    fn max_pool(b: &NetBuilder) -> Result<Self> {
        let pool = b.max_pool("branch_pool", PoolSpec::new(3, 2, 0)?);
        Ok(Self { layers: vec![Layer::MaxPool(pool)], fork: None })
    }

    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let mut xs = xs.clone();
        for layer in &self.layers {
            xs = layer.forward(&xs)?;
        }
        match &self.fork {
            None => Ok(xs),
            Some([first, second]) => concatenate(&[first.forward(&xs)?, second.forward(&xs)?]),
        }
    }
}

impl Module {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        concatenate(&self.0.iter().map(|branch| branch.forward(xs)).collect::<Result<Vec<_>>>()?)
    }
}

#[rustfmt::skip] // tables
impl Module {
    /// Figure 5 of the paper, on 35×35 pixels.
    fn a(b: &NetBuilder, inputs: usize, pooled: usize) -> Result<Self> {
        Ok(Self(vec![
            Branch::convs(b, inputs, &[("branch1x1", 64, Same(1, 1))])?,
            Branch::convs(b, inputs, &[("branch5x5_1", 48, Same(1, 1)), ("branch5x5_2", 64, Same(5, 5))])?,
            Branch::convs(b, inputs, &[
                ("branch3x3dbl_1", 64, Same(1, 1)),
                ("branch3x3dbl_2", 96, Same(3, 3)),
                ("branch3x3dbl_3", 96, Same(3, 3)),
            ])?,
            Branch::average(b, inputs, pooled)?,
        ]))
    }

    /// From 35×35 to 17×17 pixels.
    fn b(b: &NetBuilder, inputs: usize) -> Result<Self> {
        Ok(Self(vec![
            Branch::convs(b, inputs, &[("branch3x3", 384, Halve)])?,
            Branch::convs(b, inputs, &[
                ("branch3x3dbl_1", 64, Same(1, 1)),
                ("branch3x3dbl_2", 96, Same(3, 3)),
                ("branch3x3dbl_3", 96, Halve),
            ])?,
            Branch::max_pool(b)?,
        ]))
    }

    /// Figure 6, on 17×17 pixels, with `width` channels inside.
    fn c(b: &NetBuilder, inputs: usize, width: usize) -> Result<Self> {
        Ok(Self(vec![
            Branch::convs(b, inputs, &[("branch1x1", 192, Same(1, 1))])?,
            Branch::convs(b, inputs, &[
                ("branch7x7_1", width, Same(1, 1)),
                ("branch7x7_2", width, Same(1, 7)),
                ("branch7x7_3", 192, Same(7, 1)),
            ])?,
            Branch::convs(b, inputs, &[
                ("branch7x7dbl_1", width, Same(1, 1)),
                ("branch7x7dbl_2", width, Same(7, 1)),
                ("branch7x7dbl_3", width, Same(1, 7)),
                ("branch7x7dbl_4", width, Same(7, 1)),
                ("branch7x7dbl_5", 192, Same(1, 7)),
            ])?,
            Branch::average(b, inputs, 192)?,
        ]))
    }

    /// From 17×17 to 8×8 pixels.
    fn d(b: &NetBuilder, inputs: usize) -> Result<Self> {
        Ok(Self(vec![
            Branch::convs(b, inputs, &[("branch3x3_1", 192, Same(1, 1)), ("branch3x3_2", 320, Halve)])?,
            Branch::convs(b, inputs, &[
                ("branch7x7x3_1", 192, Same(1, 1)),
                ("branch7x7x3_2", 192, Same(1, 7)),
                ("branch7x7x3_3", 192, Same(7, 1)),
                ("branch7x7x3_4", 192, Halve),
            ])?,
            Branch::max_pool(b)?,
        ]))
    }

    /// Figure 7, on 8×8 pixels.
    fn e(b: &NetBuilder, inputs: usize) -> Result<Self> {
        Ok(Self(vec![
            Branch::convs(b, inputs, &[("branch1x1", 320, Same(1, 1))])?,
            Branch::forked(b, inputs, &[("branch3x3_1", 384, Same(1, 1))], [
                ("branch3x3_2a", 384, Same(1, 3)),
                ("branch3x3_2b", 384, Same(3, 1)),
            ])?,
            Branch::forked(b, inputs, &[
                ("branch3x3dbl_1", 448, Same(1, 1)),
                ("branch3x3dbl_2", 384, Same(3, 3)),
            ], [
                ("branch3x3dbl_3a", 384, Same(1, 3)),
                ("branch3x3dbl_3b", 384, Same(3, 1)),
            ])?,
            Branch::average(b, inputs, 192)?,
        ]))
    }
}
