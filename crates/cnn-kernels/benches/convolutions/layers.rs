//! The shapes of all convolutions of all backbones, each once, and some of ResNeXt-50 and MobileNet-V2.

/// Convolutions with one kernel and stride. Padding is half the kernel; where Inception-v3 has none, its output is a
/// border smaller.
pub struct Family {
    dataset: &'static str,
    /// In a batch.
    pub images: usize,
    /// Height and width.
    pub kernel: (usize, usize),
    pub stride: usize,
    pub groups: Groups,
    /// Whether to measure candle's own convolution too.
    pub with_candle: bool,
    shapes: &'static [Shapes],
}

/// How channels fall into groups.
#[derive(Debug, Clone, Copy)]
pub enum Groups {
    Count(usize),
    /// Each channel is one.
    Depthwise,
}

/// Input channels, height and width of the input, and the output channels that occur with them.
type Shapes = (usize, usize, &'static [usize]);

impl Family {
    const fn cifar10(stride: usize, shapes: &'static [Shapes]) -> Self {
        let groups = Groups::Count(1);
        Self { dataset: "CIFAR-10", images: 32, kernel: (3, 3), stride, groups, with_candle: true, shapes }
    }

    const fn imagenet(kernel: (usize, usize), stride: usize, shapes: &'static [Shapes]) -> Self {
        let groups = Groups::Count(1);
        Self { dataset: "ImageNet", images: 8, kernel, stride, groups, with_candle: false, shapes }
    }

    const fn grouped(groups: Groups, stride: usize, shapes: &'static [Shapes]) -> Self {
        Self { groups, ..Self::imagenet((3, 3), stride, shapes) }
    }

    pub fn name(&self) -> String {
        let Self { dataset, images, kernel: (height, width), stride, .. } = self;
        let kind = match self.groups {
            Groups::Count(1) => "conv".to_owned(),
            Groups::Count(groups) => format!("conv in {groups} groups"),
            Groups::Depthwise => "depthwise conv".to_owned(),
        };
        format!("{kind} {height}×{width} stride {stride}, {dataset}, batch {images}")
    }

    /// Input channels, output channels and size of each.
    pub fn layers(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        self.shapes
            .iter()
            .flat_map(|&(inputs, size, outputs)| outputs.iter().map(move |&o| (inputs, o, size)))
    }
}

#[rustfmt::skip] // a table
pub const FAMILIES: &[Family] = &[
    Family::cifar10(1, &[
        (3, 32, &[16, 64]), (16, 32, &[16]), (64, 32, &[64]), (32, 16, &[32]), (64, 16, &[128]), (128, 16, &[128]),
        (64, 8, &[64]), (128, 8, &[256]), (256, 8, &[256]), (256, 4, &[512]), (512, 4, &[512]), (512, 2, &[512]),
    ]),
    Family::cifar10(2, &[(16, 32, &[32]), (32, 16, &[64])]),
    Family::imagenet((7, 7), 2, &[(3, 224, &[64])]),
    Family::imagenet((3, 3), 1, &[
        (3, 224, &[64]), (64, 224, &[64]), (32, 149, &[32]), (32, 147, &[64]), (64, 112, &[128]), (128, 112, &[128]),
        (80, 73, &[192]), (64, 56, &[64, 192]), (128, 56, &[256]), (256, 56, &[256]), (64, 35, &[96]),
        (96, 35, &[96]), (16, 28, &[32]), (32, 28, &[96]), (96, 28, &[128]), (128, 28, &[128, 192]),
        (256, 28, &[512]), (512, 28, &[512]), (16, 14, &[48]), (24, 14, &[64]), (32, 14, &[64, 128]),
        (96, 14, &[208]), (112, 14, &[224]), (128, 14, &[256]), (144, 14, &[288]), (160, 14, &[320]),
        (256, 14, &[256]), (512, 14, &[512]), (448, 8, &[384]), (32, 7, &[128]), (48, 7, &[128]), (160, 7, &[320]),
        (192, 7, &[384]), (512, 7, &[512]),
    ]),
    Family::imagenet((3, 3), 2, &[
        (3, 299, &[32]), (64, 56, &[128]), (128, 56, &[128]), (96, 35, &[96]), (288, 35, &[384]), (128, 28, &[256]),
        (256, 28, &[256]), (192, 17, &[192, 320]), (256, 14, &[512]), (512, 14, &[512]),
    ]),
    Family::imagenet((1, 1), 1, &[
        (64, 73, &[80]), (64, 56, &[64, 256]), (256, 56, &[64, 128]), (192, 35, &[32, 48, 64]), (256, 35, &[48, 64]),
        (288, 35, &[48, 64]), (128, 28, &[512]), (192, 28, &[16, 32, 64, 96]), (256, 28, &[32, 64, 128]),
        (512, 28, &[128, 256]), (768, 17, &[128, 160, 192]), (256, 14, &[1024]), (480, 14, &[16, 64, 96, 192]),
        (512, 14, &[24, 32, 64, 112, 128, 144, 160]), (528, 14, &[32, 128, 160, 256]), (1024, 14, &[256, 512]),
        (1280, 8, &[192, 320, 384, 448]), (2048, 8, &[192, 320, 384, 448]), (512, 7, &[2048]),
        (832, 7, &[32, 48, 128, 160, 192, 256, 384]), (2048, 7, &[512]),
    ]),
    Family::imagenet((1, 1), 2, &[
        (64, 56, &[128]), (256, 56, &[512]), (128, 28, &[256]), (512, 28, &[1024]), (256, 14, &[512]),
        (1024, 14, &[2048]),
    ]),
    Family::imagenet((1, 7), 1, &[(128, 17, &[128, 192]), (160, 17, &[160, 192]), (192, 17, &[192])]),
    Family::imagenet((7, 1), 1, &[(128, 17, &[128, 192]), (160, 17, &[160, 192]), (192, 17, &[192])]),
    Family::imagenet((1, 3), 1, &[(384, 8, &[384])]),
    Family::imagenet((3, 1), 1, &[(384, 8, &[384])]),
    Family::imagenet((5, 5), 1, &[(48, 35, &[64])]),
    Family::grouped(Groups::Count(32), 1, &[
        (128, 56, &[128]), (256, 28, &[256]), (512, 14, &[512]), (1024, 7, &[1024]),
    ]),
    Family::grouped(Groups::Depthwise, 1, &[
        (32, 112, &[32]), (144, 56, &[144]), (192, 28, &[192]), (576, 14, &[576]), (960, 7, &[960]),
    ]),
    Family::grouped(Groups::Depthwise, 2, &[
        (96, 112, &[96]), (144, 56, &[144]), (192, 28, &[192]), (576, 14, &[576]),
    ]),
];
