//! From other sources' tensor names to those that the models request.

use cnn_graph::shape::elements;

/// Rules for the beginning of a name, tried in order; each applies once.
const RULES: [Rule; 4] = [
    // torch.nn.DataParallel
    Rule { from: "module.", to: "", linear: false },
    // timm's VGG has its linear layers as convolutions over the whole image.
    Rule { from: "pre_logits.fc1.", to: "classifier.0.", linear: true },
    Rule { from: "pre_logits.fc2.", to: "classifier.3.", linear: true },
    Rule { from: "head.fc.", to: "classifier.6.", linear: false },
];

struct Rule {
    from: &'static str,
    to: &'static str,
    /// Whether a weight `[outputs, …]` is that of a linear layer, `[outputs, inputs]`, in other words.
    linear: bool,
}

/// The name and shape by which a model asks for what is called `name` in a file.
pub(super) fn rename(name: &str, shape: &[usize]) -> (String, Vec<usize>) {
    let (mut name, mut shape) = (name.to_owned(), shape.to_vec());
    for Rule { from, to, linear } in &RULES {
        let Some(rest) = name.strip_prefix(from) else { continue };
        name = format!("{to}{rest}");
        if *linear && shape.len() > 2 {
            // Whoever reads the file has counted its numbers, but a dimension of 0 hides all others.
            if let Some(inputs) = elements(&shape[1..]) {
                shape = vec![shape[0], inputs];
            }
        }
    }
    (name, shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_timm_and_data_parallel_become_torchvisions() {
        for (name, shape, expected, expected_shape) in [
            ("module.layer1.0.bn1.weight", vec![64], "layer1.0.bn1.weight", vec![64]),
            ("pre_logits.fc1.weight", vec![4096, 512, 7, 7], "classifier.0.weight", vec![4096, 25088]),
            ("pre_logits.fc1.bias", vec![4096], "classifier.0.bias", vec![4096]),
            ("pre_logits.fc2.weight", vec![4096, 4096, 1, 1], "classifier.3.weight", vec![4096, 4096]),
            ("module.head.fc.weight", vec![1000, 4096], "classifier.6.weight", vec![1000, 4096]),
            ("features.0.weight", vec![64, 3, 3, 3], "features.0.weight", vec![64, 3, 3, 3]),
            ("fc.weight", vec![1000, 512], "fc.weight", vec![1000, 512]),
        ] {
            assert_eq!(rename(name, &shape), (expected.to_owned(), expected_shape));
        }
        let huge = vec![0, 1 << 40, 1 << 40];
        assert_eq!(rename("pre_logits.fc1.weight", &huge), ("classifier.0.weight".to_owned(), huge));
    }
}
