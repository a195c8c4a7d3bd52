//! How two networks' results differ.

use crate::evaluate::Logits;

/// Exact and approximate results side by side. Shares are between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// Share of images that the exact network gets right.
    pub exact_accuracy: f64,
    /// Share of images that the approximate network gets right; one with a logit that is not finite is wrong.
    pub approx_accuracy: f64,
    /// Share of images that both put in the same class.
    pub agreement: f64,
    /// One standard error of the difference of both accuracies: by how much other images of the same kind may tell it
    /// otherwise. An image counts for +1, 0 or −1.
    pub chance: f64,
    /// The largest difference of two logits; `None` if one is not finite.
    pub max_abs_logit_difference: Option<f32>,
    /// Images with a logit that is not finite.
    pub non_finite_images: usize,
}

impl Comparison {
    /// Compares the logits of the same images.
    ///
    /// # Panics
    /// If there are not as many labels as images in both.
    pub fn new(exact: &Logits, approx: &Logits, labels: &[u16]) -> Self {
        let (exact_classes, approx_classes) = (exact.predictions(), approx.predictions());
        assert!(exact_classes.len() == labels.len() && approx_classes.len() == labels.len());
        let (mut exact_right, mut approx_right, mut agree, mut non_finite_images) = (0, 0, 0, 0);
        let mut changed = 0;
        for ((e, a), &label) in exact_classes.zip(approx_classes).zip(labels) {
            let label = Some(usize::from(label));
            exact_right += usize::from(e == label);
            approx_right += usize::from(a == label);
            changed += usize::from((e == label) != (a == label));
            agree += usize::from(a.is_some() && a == e);
            non_finite_images += usize::from(a.is_none());
        }
        let differences = exact.values().iter().zip(approx.values()).map(|(e, a)| (e - a).abs());
        let share = |count: usize| count as f64 / labels.len().max(1) as f64;
        let difference = share(approx_right) - share(exact_right);
        let variance = (share(changed) - difference * difference).max(0.0);
        Self {
            chance: (variance / labels.len().max(1) as f64).sqrt(),
            exact_accuracy: share(exact_right),
            approx_accuracy: share(approx_right),
            agreement: share(agree),
            max_abs_logit_difference: (non_finite_images == 0).then(|| differences.fold(0.0, f32::max)),
            non_finite_images,
        }
    }

    /// How much accuracy changes, as a share of the exact network's: what the reference prints.
    pub fn relative_difference(&self) -> f64 {
        (self.approx_accuracy - self.exact_accuracy) / self.exact_accuracy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_all_images() {
        let exact = Logits::new(vec![1.0, 0.0, 0.0, 1.0, 2.0, 2.0, 0.0, 3.0], 2);
        let approx = Logits::new(vec![0.9, 0.0, 0.3, 0.1, f32::NAN, 1.0, 0.5, 3.0], 2);
        let c = Comparison::new(&exact, &approx, &[0, 1, 0, 0]);
        assert_eq!((c.exact_accuracy, c.approx_accuracy, c.agreement), (0.75, 0.25, 0.5));
        assert_eq!((c.max_abs_logit_difference, c.non_finite_images), (None, 1));
        assert!((c.relative_difference() + 2.0 / 3.0).abs() < 1e-12);
        // Two of four images are lost: the mean is −1/2, and so is the mean square less its square root 1/4.
        assert!((c.chance - (0.25f64 / 4.0).sqrt()).abs() < 1e-12);
        let c = Comparison::new(&exact, &exact, &[0, 1, 0, 0]);
        assert_eq!((c.agreement, c.max_abs_logit_difference), (1.0, Some(0.0)));
    }
}
