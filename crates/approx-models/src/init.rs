//! Random weights to train from, by the rules of Lee et al.'s code.
//!
//! | tensor | ResNet, LeNet-5 | VGG |
//! |---|---|---|
//! | convolution's weight | N(0, sqrt(2 / fan_in)) | N(0, sqrt(2 / (k · k · outputs))) |
//! | convolution's bias | 0 | 0 |
//! | linear weight | N(0, sqrt(2 / fan_in)) | U(±1 / sqrt(fan_in)) |
//! | linear bias | U(±1 / sqrt(fan_in)) | the same |
//! | batch norm's weight and running variance | 1 | 1 |
//! | batch norm's bias and running mean | 0 | 0 |
//!
//! N(0, sqrt(2 / fan_in)) is He et al.'s (arXiv 1502.01852, equation 10); U is the default of PyTorch's linear layer.

use std::collections::{BTreeMap, HashMap};

use candle_core::{Device, Tensor};
use cnn_graph::zoo::Backbone;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal, Uniform};

use crate::error::Result;
use crate::weights::Weights;

/// Random weights for `backbone`. Each tensor depends on `seed` and its own name, and on nothing else.
///
/// ```
/// use approx_models::{ActivationPolicy, Backbone, Network, initial_weights};
///
/// let backbone = Backbone::find("cifar10", "resnet20")?;
/// let weights = initial_weights(backbone, 1)?;
/// let network = Network::build(backbone.graph()?, &weights, &ActivationPolicy::exact())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// candle's, where memory ends.
pub fn initial_weights(backbone: &Backbone, seed: u64) -> Result<Weights> {
    let shapes = tensor_shapes(backbone)?;
    let vgg = backbone.name().starts_with("vgg");
    let mut tensors = HashMap::with_capacity(shapes.len());
    for (name, shape) in &shapes {
        let values = Rule::of(name, &shapes, vgg).values(shape.iter().product(), &mut stream(seed, name));
        tensors.insert(name.clone(), Tensor::from_vec(values, shape.as_slice(), &Device::Cpu)?);
    }
    Ok(Weights::from_tensors(tensors, &Device::Cpu, format!("random weights of seed {seed}"))?)
}

/// Names and shapes of all tensors of a backbone.
///
/// # Errors
/// Those of [`Backbone::graph`].
pub fn tensor_shapes(backbone: &Backbone) -> Result<BTreeMap<String, Vec<usize>>> {
    let params = backbone.graph()?.params();
    Ok(params.into_iter().map(|param| (param.name, param.shape)).collect())
}

/// How the values of a tensor are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Rule {
    Constant(f32),
    /// With this standard deviation.
    Normal(f64),
    /// Between minus and plus this.
    Uniform(f64),
}

impl Rule {
    fn of(name: &str, shapes: &BTreeMap<String, Vec<usize>>, vgg: bool) -> Self {
        let (layer, kind) = name.rsplit_once('.').unwrap_or(("", name));
        // The weight's shape tells the layer: [outputs, inputs, k, k], [outputs, inputs], or [channels] of batch norm.
        let weight = shapes.get(&format!("{layer}.weight")).map_or(&[][..], Vec::as_slice);
        let fan_in = weight.iter().skip(1).product::<usize>() as f64;
        match (kind, weight) {
            ("weight", &[outputs, _, height, width]) if vgg => {
                Self::Normal((2.0 / (height * width * outputs) as f64).sqrt())
            }
            ("weight", [_, _]) if vgg => Self::Uniform(fan_in.sqrt().recip()),
            ("weight", [_, _, ..]) => Self::Normal((2.0 / fan_in).sqrt()),
            ("bias", [_, _]) => Self::Uniform(fan_in.sqrt().recip()),
            ("weight" | "running_var", _) => Self::Constant(1.0),
            _ => Self::Constant(0.0),
        }
    }

    fn values(self, count: usize, random: &mut ChaCha8Rng) -> Vec<f32> {
        // In float64 and rounded once.
        let mut draw = |distribution: &dyn Fn(&mut ChaCha8Rng) -> f64| {
            (0..count).map(|_| distribution(random) as f32).collect()
        };
        match self {
            Self::Constant(value) => vec![value; count],
            Self::Normal(std) => {
                let normal = Normal::new(0.0, std).expect("the deviation is finite");
                draw(&|random| normal.sample(random))
            }
            Self::Uniform(bound) => {
                let uniform = Uniform::new(-bound, bound).expect("the bounds are finite and in order");
                draw(&|random| uniform.sample(random))
            }
        }
    }
}

/// The random numbers of one tensor, or of one layer.
pub(crate) fn stream(seed: u64, name: &str) -> ChaCha8Rng {
    // FNV-1a, which stays what it is, unlike the standard library's hash.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(hash);
    random
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ActivationPolicy, Network};

    fn values(weights: &Weights, name: &str, shape: &[usize]) -> Vec<f32> {
        weights.get(name, shape).unwrap().unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    fn moments(values: &[f32]) -> (f64, f64) {
        let count = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
        let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / count;
        (mean, variance.sqrt())
    }

    #[test]
    fn each_kind_of_tensor_has_its_distribution() {
        let weights = |name| initial_weights(Backbone::find("cifar10", name).unwrap(), 1).unwrap();
        let (resnet, vgg) = (weights("resnet20"), weights("vgg11bn"));
        // Deviation of U(±b) is b / sqrt(3).
        let uniform = |fan_in: f64| (fan_in.sqrt().recip() / 3f64.sqrt(), fan_in.sqrt().recip());
        let normal = |variance: f64| (variance.sqrt(), f64::INFINITY);
        for (weights, name, shape, (std, largest)) in [
            (&resnet, "layer1.0.conv1.weight", &[16, 16, 3, 3][..], normal(2.0 / 144.0)),
            (&resnet, "layer3.1.conv2.weight", &[64, 64, 3, 3], normal(2.0 / 576.0)),
            (&resnet, "linear.weight", &[10, 64], normal(2.0 / 64.0)),
            (&vgg, "features.4.weight", &[128, 64, 3, 3], normal(2.0 / (9.0 * 128.0))),
            (&vgg, "linear1.weight", &[512, 512], uniform(512.0)),
            (&vgg, "linear1.bias", &[512], uniform(512.0)),
        ] {
            let values = values(weights, name, shape);
            let (mean, found) = moments(&values);
            // Four standard errors.
            let tolerance = 4.0 / (values.len() as f64).sqrt();
            assert!(mean.abs() < tolerance * std, "{name}: mean {mean}");
            assert!((found / std - 1.0).abs() < tolerance, "{name}: {found}, not {std}");
            assert!(values.iter().all(|&v| f64::from(v.abs()) <= largest + 1e-9), "{name}");
        }
        let biases = values(&resnet, "linear.bias", &[10]);
        assert!(biases.iter().all(|&b| b != 0.0 && b.abs() <= 0.125), "{biases:?}");
        for (weights, name, channels, expected) in [
            (&resnet, "bn1.weight", 16, 1.0),
            (&resnet, "layer2.0.bn1.bias", 32, 0.0),
            (&resnet, "bn1.running_mean", 16, 0.0),
            (&vgg, "features.1.running_var", 64, 1.0),
            (&vgg, "features.0.bias", 64, 0.0),
        ] {
            assert_eq!(values(weights, name, &[channels]), vec![expected; channels], "{name}");
        }
    }

    #[test]
    fn a_tensor_depends_on_the_seed_and_its_name_only() {
        let draw = |name, seed, tensor| {
            let weights = initial_weights(Backbone::find("cifar10", name).unwrap(), seed).unwrap();
            values(&weights, tensor, &[16, 16, 3, 3])
        };
        let first = draw("resnet20", 1, "layer1.0.conv1.weight");
        assert_eq!(first, draw("resnet20", 1, "layer1.0.conv1.weight"));
        assert_eq!(first, draw("resnet32", 1, "layer1.0.conv1.weight"));
        assert_ne!(first, draw("resnet20", 2, "layer1.0.conv1.weight"));
        assert_ne!(first, draw("resnet20", 1, "layer1.0.conv2.weight"));
    }

    #[test]
    fn every_backbone_that_is_trained_can_be_built_from_random_weights() {
        for backbone in ["cifar10", "mnist", "fashion-mnist"].into_iter().flat_map(Backbone::all) {
            let weights = initial_weights(backbone, 7).unwrap();
            let graph = backbone.graph().unwrap();
            Network::build(graph, &weights, &ActivationPolicy::exact()).unwrap();
        }
    }
}
