//! Programs as files: JSON, with the plaintexts of linear layers beside it as safetensors.
//!
//! What a file says is checked before anything relies on it: operands are earlier instructions, levels and scales agree,
//! and places lie in the ciphertexts that there are.

use std::io::{self, Write};

use crate::error::{Error, Result};
use crate::ir::{Op, Program};
use crate::layout::Layout;
use crate::plan::Plan;

/// The most instructions that a program read from a file may have.
const MOST_INSTRUCTIONS: usize = 1 << 26;
/// The most slots of a ciphertext.
const MOST_SLOTS: usize = 1 << 20;

impl Program {
    /// The program as JSON.
    ///
    /// # Errors
    /// [`Error::Program`] for a constant that is no number.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Error::Program(error.to_string()))
    }

    /// Reads a program.
    ///
    /// # Errors
    /// [`Error::Program`] for text that is no program of this version, or one that contradicts itself.
    pub fn from_json(text: &str) -> Result<Self> {
        #[derive(serde::Deserialize)]
        struct Version {
            version: u32,
        }
        let error = |error: serde_json::Error| Error::Program(error.to_string());
        let Version { version } = serde_json::from_str(text).map_err(error)?;
        if version != Self::VERSION {
            let reason = format!("it has version {version}, but this program reads {}", Self::VERSION);
            return Err(Error::Program(reason));
        }
        let program: Self = serde_json::from_str(text).map_err(error)?;
        program.check().map_err(Error::Program)?;
        Ok(program)
    }

    fn check(&self) -> std::result::Result<(), String> {
        let (slots, lanes) = (self.packing.slots, self.packing.lanes);
        if !slots.is_power_of_two() || slots > MOST_SLOTS || lanes == 0 || !slots.is_multiple_of(lanes) {
            return Err(format!("{lanes} images cannot share {slots} slots"));
        }
        if self.instructions.len() > MOST_INSTRUCTIONS {
            return Err(format!("it has {} instructions", self.instructions.len()));
        }
        let inputs = self.instructions.iter().filter(|i| matches!(i.op, Op::Input { .. })).count();
        check_layout("input", &self.input, inputs, self.packing.positions())?;
        check_layout("output", &self.output, self.results.len(), self.packing.positions())?;
        if self.output_scale.len() != self.output.shape[0] {
            return Err(format!("{} channels have {} scales", self.output.shape[0], self.output_scale.len()));
        }
        let count = self.instructions.len();
        let values = self.layers.iter().flat_map(|layer| &layer.values).chain(&self.results);
        if let Some(value) = values.into_iter().find(|value| **value as usize >= count) {
            return Err(format!("there is no value {value}"));
        }
        for (i, instruction) in self.instructions.iter().enumerate() {
            let at = |reason: &str| Err(format!("instruction {i}: {reason}"));
            if instruction.layer as usize >= self.layers.len() {
                return at("there is no such layer");
            }
            let operands: Vec<usize> = instruction.op.operands().map(|operand| operand as usize).collect();
            if operands.iter().any(|operand| *operand >= i) {
                return at("an operand comes later");
            }
            let operands: Vec<_> = operands.into_iter().map(|operand| self.instructions[operand]).collect();
            let (level, scale) = match instruction.op {
                Op::Input { ciphertext } if ciphertext as usize >= inputs => {
                    return at("there is no such ciphertext");
                }
                Op::Rotate { by, .. } | Op::RotateHoisted { by, .. } if by as usize >= slots => {
                    return at("it rotates by more than all slots");
                }
                Op::AddConstant { constant, .. } | Op::MultiplyConstant { constant, .. }
                    if !constant.is_finite() =>
                {
                    return at("a constant is no number");
                }
                Op::Input { .. } | Op::Bootstrap { .. } => (instruction.level, 1),
                Op::Drop { .. } => (operands[0].level.min(instruction.level), operands[0].scale),
                Op::Rescale { .. } if operands[0].level == 0 || operands[0].scale != 2 => {
                    return at("there is nothing to rescale");
                }
                Op::Rescale { .. } => (operands[0].level - 1, 1),
                Op::MultiplyConstant { .. } | Op::MultiplyPlain { .. } | Op::Multiply { .. } => {
                    if operands.iter().any(|operand| operand.scale != 1) {
                        return at("a factor is not rescaled");
                    }
                    (operands[0].level, 2)
                }
                _ => (operands[0].level, operands[0].scale),
            };
            if operands.iter().any(|operand| operand.level != operands[0].level) {
                return at("its operands are at different levels");
            }
            let is_sum = matches!(instruction.op, Op::Add { .. } | Op::Subtract { .. });
            if is_sum && operands[0].scale != operands[1].scale {
                return at("its summands have different scales");
            }
            if (instruction.level, instruction.scale) != (level, scale) {
                return at("its level or scale is not what its operands give");
            }
        }
        Ok(())
    }
}

fn check_layout(
    name: &str,
    layout: &Layout,
    ciphertexts: usize,
    positions: usize,
) -> std::result::Result<(), String> {
    let [channels, height, width] = layout.shape;
    let places = ciphertexts.checked_mul(positions).unwrap_or(0);
    let span = |count: usize, stride: usize| count.checked_sub(1).and_then(|last| last.checked_mul(stride));
    let reach = span(height, layout.row_stride)
        .zip(span(width, layout.column_stride))
        .and_then(|(rows, columns)| rows.checked_add(columns));
    let numbers = channels.checked_mul(height).and_then(|rows| rows.checked_mul(width));
    let fits = |base: &usize| reach.and_then(|reach| base.checked_add(reach)).is_some_and(|end| end < places);
    let is_period = layout.period > 0 && positions.is_multiple_of(layout.period);
    let all_fit = numbers.is_some_and(|numbers| numbers <= places) && layout.bases.iter().flatten().all(fits);
    if channels != layout.bases.len() || !is_period || !all_fit {
        return Err(format!("the {name} does not lie in {ciphertexts} ciphertexts of {positions} positions"));
    }
    Ok(())
}

/// How many vectors are made at once.
const VECTORS: usize = 256;

impl Plan {
    /// Writes the plaintext vectors of a linear layer as safetensors. The tensor `products.B`, of shape
    /// `[products, positions]`, has those of the output's ciphertext `B`, in the order in which instructions name them, and
    /// `sums.B`, `[positions]`, what is added at the end. Numbers are float64. Each number is for the slots of all images at
    /// that position.
    ///
    /// # Errors
    /// Of the writer, and [`io::ErrorKind::InvalidInput`] for a layer that is not linear.
    pub fn write_plaintexts(&self, layer: usize, mut to: impl Write) -> io::Result<()> {
        let linear = self.stages.get(layer).and_then(|stage| stage.linear());
        let linear = linear.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("layer {layer} is not linear"))
        })?;
        let positions = self.program.packing.positions();
        let mut header = serde_json::Map::new();
        let mut offset = 0;
        let blocks = linear.output().ciphertexts;
        for block in 0..blocks {
            let products = linear.products_of(block).len();
            for (name, shape) in [
                (format!("products.{block}"), vec![products, positions]),
                (format!("sums.{block}"), vec![positions]),
            ] {
                let end = offset + 8 * shape.iter().product::<usize>();
                let entry =
                    serde_json::json!({"dtype": "F64", "shape": shape, "data_offsets": [offset, end]});
                header.insert(name, entry);
                offset = end;
            }
        }
        let mut header = serde_json::to_vec(&header).map_err(io::Error::other)?;
        header.resize(header.len().next_multiple_of(8), b' ');
        to.write_all(&(header.len() as u64).to_le_bytes())?;
        to.write_all(&header)?;
        let mut write = |vector: Vec<f64>| {
            let bytes: Vec<u8> = vector.into_iter().flat_map(f64::to_le_bytes).collect();
            to.write_all(&bytes)
        };
        for block in 0..blocks {
            let products = linear.products_of(block).len();
            for start in (0..products).step_by(VECTORS) {
                let end = products.min(start + VECTORS);
                linear.vectors(block, start..end).into_iter().try_for_each(&mut write)?;
            }
            write(linear.bias_vector(block))?;
        }
        to.flush()
    }
}
