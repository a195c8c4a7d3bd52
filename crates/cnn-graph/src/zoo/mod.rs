//! The backbones: each is a function from a [`GraphBuilder`](crate::GraphBuilder) to a value, its logits.
//!
//! Tensors have the names of the authors' weights (for CIFAR-10), or of torchvision's (for ImageNet); sites are named in
//! their style. LeNet-5 has no published weights, and names of ours.

mod backbone;
pub mod googlenet;
pub mod inception;
pub mod lenet;
pub mod resnet;
pub mod vgg;

pub use backbone::Backbone;
