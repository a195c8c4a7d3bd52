//! Other class counts and image sizes than the data sets'.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use approx_models::{ActivationPolicy, Backbone, ModelError, Network, Weights};
use candle_core::{DType, Device, Tensor};

/// One of each architecture, but ImageNet's VGG, which has the same convolutions and large linear layers.
fn all() -> impl Iterator<Item = Backbone> {
    let names = [
        ("cifar10", "resnet20"),
        ("cifar10", "vgg11bn"),
        ("imagenet", "resnet18"),
        ("imagenet", "googlenet"),
        ("imagenet", "inception_v3"),
    ];
    names.into_iter().map(|(dataset, name)| *Backbone::find(dataset, name).unwrap())
}

/// Weights that keep all values small.
fn generated() -> Weights {
    Weights::generate(Device::Cpu, |name, shape| {
        let value = if name.ends_with("running_var") { 1.0 } else { 0.001 };
        vec![value; shape.iter().product()]
    })
}

fn logits(backbone: Backbone, size: usize) -> approx_models::Result<Tensor> {
    let graph = backbone.with_image_size([size, size]).graph()?;
    let network = Network::build(graph, &generated(), &ActivationPolicy::exact())?;
    network.forward(&Tensor::ones((2, 3, size, size), DType::F32, &Device::Cpu)?)
}

#[test]
fn networks_give_a_logit_for_each_class_at_their_smallest_image() {
    let classes = NonZeroUsize::new(7).unwrap();
    for backbone in all() {
        let smallest = backbone.smallest_image();
        let logits = logits(backbone.with_classes(classes), smallest);
        let dims = logits.map(|logits| logits.dims().to_vec());
        assert_eq!(dims.unwrap(), [2, 7], "{} at {smallest}", backbone.name());
    }
}

#[test]
fn below_their_smallest_image_networks_fail() {
    for backbone in all().filter(|b| b.smallest_image() > 1) {
        let size = backbone.smallest_image() - 1;
        assert!(logits(backbone, size).is_err(), "{} at {size}", backbone.name());
    }
}

/// The weights of a ResNet-20 for `classes`, without the tensor `without`.
fn resnet20(classes: usize, without: &str) -> Weights {
    let list = include_str!("golden/state_dicts/cifar10_resnet20.txt");
    let tensors: HashMap<String, Tensor> = list
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, shape)| *shape != "scalar" && *name != without)
        .map(|(name, shape)| {
            let mut shape: Vec<usize> = shape.split('x').map(|size| size.parse().unwrap()).collect();
            if name.starts_with("linear.") {
                shape[0] = classes;
            }
            (name.to_owned(), Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap())
        })
        .collect();
    Weights::from_tensors(tensors, &Device::Cpu, "a.pt".to_owned()).unwrap()
}

#[test]
fn weights_for_other_classes_are_an_error_with_both_numbers() {
    let backbone = Backbone::find("cifar10", "resnet20").unwrap();
    let build = |classes, without, asked| {
        let asked = backbone.with_classes(NonZeroUsize::new(asked).unwrap());
        Network::build(asked.graph()?, &resnet20(classes, without), &ActivationPolicy::exact()).map(|_| ())
    };
    build(100, "", 100).unwrap();
    let error = build(100, "", 10).unwrap_err();
    assert_eq!(error.to_string(), "a.pt: the weights are for 100 classes, not for 10");
    assert!(matches!(error, ModelError::Classes { found: 100, asked: 10, .. }));
    // Something else is wrong as well, and is not hidden.
    let error = build(100, "bn1.bias", 10).unwrap_err().to_string();
    assert!(error.contains("1 tensor is missing: bn1.bias; 2 tensors are of another shape"), "{error}");
}
