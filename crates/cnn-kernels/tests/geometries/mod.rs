//! Convolutions of all kinds, for tests.

use cnn_kernels::{ConvGeometry, Padding};
use proptest::prelude::*;

/// Images, their height and width, and a convolution with groups, dilation, or what differs by axis or side.
pub fn table() -> Vec<(usize, [usize; 2], ConvGeometry)> {
    let new = ConvGeometry::new;
    let same = Padding::symmetric(1, 1);
    let uneven = Padding { top: 0, bottom: 2, left: 3, right: 1 };
    vec![
        (3, [9, 8], new(16, 16, [3, 3]).with_groups(16).with_padding(same)), // depthwise
        (2, [11, 10], new(37, 37, [3, 3]).with_groups(37).with_padding(same).with_stride([2, 2])),
        (2, [12, 9], new(20, 20, [5, 3]).with_groups(20).with_padding(uneven).with_dilation([2, 1])),
        (1, [40, 70], new(8, 8, [7, 7]).with_groups(8).with_padding(Padding::symmetric(3, 3))),
        (2, [6, 7], new(6, 12, [3, 3]).with_groups(6).with_padding(same)), // two outputs of each channel
        (2, [8, 8], new(128, 128, [3, 3]).with_groups(32).with_padding(same)), // ResNeXt's
        (2, [7, 9], new(40, 60, [3, 3]).with_groups(2).with_padding(same).with_stride([2, 1])),
        (3, [6, 5], new(24, 48, [1, 1]).with_groups(3)), // ShuffleNet's
        (2, [13, 12], new(16, 24, [3, 3]).with_dilation([2, 2]).with_padding(Padding::symmetric(2, 2))),
        (2, [15, 9], new(5, 7, [3, 2]).with_dilation([3, 2]).with_padding(uneven)),
        (
            2,
            [10, 11],
            new(3, 32, [3, 3]).with_stride([2, 2]).with_padding(Padding {
                bottom: 1,
                right: 1,
                ..Padding::ZERO
            }),
        ),
        (2, [10, 11], new(16, 32, [3, 3]).with_padding(uneven)), // by Winograd's form
        (1, [9, 30], new(4, 4, [2, 5]).with_stride([1, 3]).with_padding(uneven)),
        (2, [4, 5], new(3, 5, [1, 1]).with_padding(Padding { top: 2, bottom: 1, left: 0, right: 3 })),
    ]
}

/// A convolution and a height and width that it fits into.
pub fn geometry() -> impl Strategy<Value = ([usize; 2], ConvGeometry)> {
    let channels = (1usize..=6, 1usize..=20, 1usize..=20, any::<bool>());
    let channels = channels.prop_map(|(groups, inputs, outputs, is_depthwise)| match is_depthwise {
        true => (inputs, inputs, inputs),
        false => (groups, groups * inputs.div_ceil(groups), groups * outputs.div_ceil(groups)),
    });
    let pair = |most: usize| prop::array::uniform2(1..=most);
    let padding = prop::array::uniform4(0usize..=3);
    (channels, pair(4), pair(3), pair(3), padding, prop::array::uniform2(0usize..=9)).prop_map(
        |((groups, inputs, outputs), kernel, stride, dilation, [top, bottom, left, right], more)| {
            let padding = Padding { top, bottom, left, right };
            let geometry = ConvGeometry { inputs, outputs, kernel, stride, dilation, padding, groups };
            let (rows, columns) = (top + bottom, left + right);
            let size = |axis: usize, padding: usize| {
                let span = (kernel[axis] - 1) * dilation[axis] + 1;
                span.saturating_sub(padding).max(1) + more[axis]
            };
            ([size(0, rows), size(1, columns)], geometry)
        },
    )
}
