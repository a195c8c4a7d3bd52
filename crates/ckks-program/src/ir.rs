//! The program: what is done to ciphertexts, one instruction after the other.
//!
//! A program is in static single assignment form: instruction `i` gives value `i`, a ciphertext, from earlier ones. Its
//! operands are at the level at which it works, and agree in scale. Plaintext vectors are named by [`Plain`] and are no
//! part of it: [`Plan::plaintexts`](crate::Plan::plaintexts) makes them from the weights.
//!
//! *Levels* count the rescalings that are left. *Scales* are told as the number of factors of about Δ: a product with two
//! has to be rescaled. Which factor exactly makes sums agree is for the engine's moduli to say
//! ([`EvaluationPlan::scales`](minimax_coeffs::EvaluationPlan::scales)).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::layout::{Layout, Packing};

/// The value of the instruction with this number.
pub type ValueId = u32;

/// A plaintext vector of a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Plain {
    /// Of which layer: its place in [`Program::layers`].
    pub layer: u32,
    /// Of which of its output's ciphertexts.
    pub block: u32,
    /// Of which of the block's products; `None` for what is added at the end.
    pub product: Option<u32>,
}

/// What an instruction does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "op")]
pub enum Op {
    /// A ciphertext of the input.
    Input {
        /// Which one.
        ciphertext: u32,
    },
    /// `a + b`.
    Add {
        /// A summand.
        a: ValueId,
        /// A summand.
        b: ValueId,
    },
    /// `a − b`.
    Subtract {
        /// From what.
        a: ValueId,
        /// What is taken off.
        b: ValueId,
    },
    /// The same number added to all slots.
    AddConstant {
        /// A summand.
        a: ValueId,
        /// The other one.
        constant: f64,
    },
    /// All slots times the same number; has to be rescaled.
    MultiplyConstant {
        /// A factor.
        a: ValueId,
        /// The other one.
        constant: f64,
    },
    /// A vector added.
    AddPlain {
        /// A summand.
        a: ValueId,
        /// The other one.
        plain: Plain,
    },
    /// Times a vector, slot by slot; has to be rescaled.
    MultiplyPlain {
        /// A factor.
        a: ValueId,
        /// The other one.
        plain: Plain,
    },
    /// `a · b`, relinearised; has to be rescaled.
    Multiply {
        /// A factor.
        a: ValueId,
        /// A factor.
        b: ValueId,
    },
    /// Divides by the last modulus.
    Rescale {
        /// Of what.
        a: ValueId,
    },
    /// The same value at a lower level.
    Drop {
        /// Which value.
        a: ValueId,
    },
    /// Slot `i` gets what slot `i + by` has, around the end.
    Rotate {
        /// Of what.
        a: ValueId,
        /// By how many slots.
        by: u32,
    },
    /// The same, of a value that is rotated several times: instructions with the same value that follow each other share
    /// its decomposition.
    RotateHoisted {
        /// Of what.
        a: ValueId,
        /// By how many slots.
        by: u32,
    },
    /// A fresh ciphertext of the same numbers.
    Bootstrap {
        /// Of what.
        a: ValueId,
    },
}

/// Kinds of operations, which a cost is known for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpKind {
    /// A sum or a difference of ciphertexts.
    Add,
    /// A sum with a plaintext vector or a constant.
    AddPlain,
    /// A product with a number.
    MultiplyConstant,
    /// A product with a plaintext vector.
    MultiplyPlain,
    /// A product of ciphertexts, relinearised.
    Multiply,
    /// A rescaling.
    Rescale,
    /// A rotation by itself.
    Rotate,
    /// A rotation whose decomposition is shared.
    RotateHoisted,
    /// The decomposition that hoisted rotations share.
    Hoist,
    /// A bootstrap.
    Bootstrap,
}

impl Op {
    /// Its kind; `None` where nothing is computed.
    pub fn kind(&self) -> Option<OpKind> {
        Some(match self {
            Self::Input { .. } | Self::Drop { .. } => return None,
            Self::Add { .. } | Self::Subtract { .. } => OpKind::Add,
            Self::AddConstant { .. } | Self::AddPlain { .. } => OpKind::AddPlain,
            Self::MultiplyConstant { .. } => OpKind::MultiplyConstant,
            Self::MultiplyPlain { .. } => OpKind::MultiplyPlain,
            Self::Multiply { .. } => OpKind::Multiply,
            Self::Rescale { .. } => OpKind::Rescale,
            Self::Rotate { .. } => OpKind::Rotate,
            Self::RotateHoisted { .. } => OpKind::RotateHoisted,
            Self::Bootstrap { .. } => OpKind::Bootstrap,
        })
    }

    /// By how many slots it rotates, if it does.
    pub fn rotation(&self) -> Option<u32> {
        match self {
            Self::Rotate { by, .. } | Self::RotateHoisted { by, .. } => Some(*by),
            _ => None,
        }
    }

    /// The values that it takes.
    pub fn operands(&self) -> impl Iterator<Item = ValueId> + use<> {
        let [a, b] = match *self {
            Self::Input { .. } => [None, None],
            Self::Add { a, b } | Self::Subtract { a, b } | Self::Multiply { a, b } => [Some(a), Some(b)],
            Self::AddConstant { a, .. }
            | Self::MultiplyConstant { a, .. }
            | Self::AddPlain { a, .. }
            | Self::MultiplyPlain { a, .. }
            | Self::Rescale { a }
            | Self::Drop { a }
            | Self::Rotate { a, .. }
            | Self::RotateHoisted { a, .. }
            | Self::Bootstrap { a } => [Some(a), None],
        };
        a.into_iter().chain(b)
    }
}

/// An instruction.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Instruction {
    /// What is done.
    #[serde(flatten)]
    pub op: Op,
    /// Of which layer it is a part: its place in [`Program::layers`].
    pub layer: u32,
    /// The level of the result.
    pub level: u32,
    /// How many factors of about Δ the scale of the result has.
    pub scale: u32,
}

impl Instruction {
    /// The level of the operands.
    pub fn works_at(&self) -> u32 {
        self.level + u32::from(matches!(self.op, Op::Rescale { .. }))
    }
}

/// A part of the program that gives one value of the network, or one on the way to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// The name of the network's node.
    pub name: String,
    /// What kind of part it is, such as `linear` or `polynomial`.
    pub kind: String,
    /// The ciphertexts of its value.
    pub values: Vec<ValueId>,
    /// A bound of what is in the slots, if the values that the policy has bounds for keep them; `None` if it is not known.
    pub bound: Option<f64>,
    /// Where the numbers lie; `None` where they lie as those of the layer before.
    pub layout: Option<Layout>,
}

/// A network for encrypted images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// [`Program::VERSION`].
    pub version: u32,
    /// How images share ciphertexts.
    pub packing: Packing,
    /// Where the pixels of an image lie. They are encrypted as they are.
    pub input: Layout,
    /// Where the results lie.
    pub output: Layout,
    /// For each channel of the output what the contents of its slots are multiplied by, and what is added.
    pub output_scale: Vec<[f64; 2]>,
    /// The ciphertexts of the result.
    pub results: Vec<ValueId>,
    /// The parts, in the order of their instructions.
    pub layers: Vec<Layer>,
    /// All instructions.
    pub instructions: Vec<Instruction>,
}

/// How many operations of each kind at each level.
pub type Counts = BTreeMap<(OpKind, u32), usize>;

impl Program {
    /// The version of the format of files.
    pub const VERSION: u32 = 1;

    /// After which instruction each value is not needed any more; results never are.
    pub fn last_uses(&self) -> Vec<usize> {
        let mut last: Vec<usize> = (0..self.instructions.len()).collect();
        for (i, instruction) in self.instructions.iter().enumerate() {
            instruction.op.operands().for_each(|operand| last[operand as usize] = i);
        }
        self.results.iter().for_each(|result| last[*result as usize] = usize::MAX);
        last
    }

    /// By how many slots ciphertexts are rotated: one key each.
    pub fn rotations(&self) -> std::collections::BTreeSet<u32> {
        self.instructions.iter().filter_map(|instruction| instruction.op.rotation()).collect()
    }
}

/// Counts instructions by kind and level, and the decompositions of hoisted rotations.
pub fn count<'a>(instructions: impl IntoIterator<Item = &'a Instruction>) -> Counts {
    let mut counts = Counts::new();
    let mut hoisted = None;
    for instruction in instructions {
        let Some(kind) = instruction.op.kind() else { continue };
        *counts.entry((kind, instruction.works_at())).or_default() += 1;
        let now = match instruction.op {
            Op::RotateHoisted { a, .. } => Some(a),
            _ => None,
        };
        if now.is_some() && now != hoisted {
            *counts.entry((OpKind::Hoist, instruction.level)).or_default() += 1;
        }
        hoisted = now;
    }
    counts
}
