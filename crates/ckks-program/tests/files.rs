//! Programs and plaintexts as files, and what is wrong with damaged ones.

mod common;

use ckks_program::ir::{Op, Plain};
use ckks_program::{Error, Noise, Plan, PlanOptions, Program};
use cnn_graph::policy::ActivationPolicy;
use cnn_graph::zoo::Backbone;
use common::{images, weights};

fn plan() -> Plan {
    let graph = Backbone::find("mnist", "lenet5").unwrap().graph().unwrap();
    let policy = ActivationPolicy::minimax(minimax_coeffs::Alpha::MIN, 50.0, 50.0);
    Plan::new(&graph, weights, &policy, &PlanOptions::new(8192)).unwrap()
}

/// What another program would do: all instructions, with plaintexts from the exported files alone.
fn interpret(
    program: &Program,
    plaintexts: impl Fn(Plain) -> Vec<f64>,
    images: &[Vec<f64>],
) -> Vec<Vec<f64>> {
    let mut values: Vec<Vec<f64>> = Vec::new();
    for instruction in &program.instructions {
        let zip = |a: u32, b: &[f64], f: fn(f64, f64) -> f64| {
            values[a as usize].iter().zip(b).map(|(x, y)| f(*x, *y)).collect::<Vec<f64>>()
        };
        let value = match instruction.op {
            Op::Input { ciphertext } => program.encoded(ciphertext as usize, images),
            Op::Add { a, b } => zip(a, &values[b as usize], |x, y| x + y),
            Op::Subtract { a, b } => zip(a, &values[b as usize], |x, y| x - y),
            Op::Multiply { a, b } => zip(a, &values[b as usize], |x, y| x * y),
            Op::AddPlain { a, plain } => zip(a, &plaintexts(plain), |x, y| x + y),
            Op::MultiplyPlain { a, plain } => zip(a, &plaintexts(plain), |x, y| x * y),
            Op::AddConstant { a, constant } => values[a as usize].iter().map(|x| x + constant).collect(),
            Op::MultiplyConstant { a, constant } => values[a as usize].iter().map(|x| x * constant).collect(),
            Op::Rotate { a, by } | Op::RotateHoisted { a, by } => {
                let mut value = values[a as usize].clone();
                value.rotate_left(by as usize);
                value
            }
            Op::Rescale { a } | Op::Drop { a } | Op::Bootstrap { a } => values[a as usize].clone(),
        };
        values.push(value);
    }
    (0..images.len()).map(|lane| program.decoded(lane, |result| &values[result as usize])).collect()
}

/// A tensor of a file in safetensors' format.
fn tensor(file: &[u8], name: &str) -> (Vec<usize>, Vec<f64>) {
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
    let entry = &header[name];
    assert_eq!(entry["dtype"], "F64");
    let numbers = |key: &str| -> Vec<usize> { serde_json::from_value(entry[key].clone()).unwrap() };
    let offsets = numbers("data_offsets");
    let data = &file[8 + length..][offsets[0]..offsets[1]];
    let values = data.chunks(8).map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap())).collect();
    (numbers("shape"), values)
}

#[test]
fn files_alone_are_enough_to_run_a_program() {
    let plan = plan();
    let program = Program::from_json(&plan.program().to_json().unwrap()).unwrap();
    assert_eq!(&program, plan.program());
    let mut files = std::collections::HashMap::new();
    for (i, layer) in program.layers.iter().enumerate().filter(|(_, layer)| layer.kind == "linear") {
        let mut file = Vec::new();
        plan.write_plaintexts(i, &mut file).unwrap();
        files.insert(i, (layer.name.clone(), file));
    }
    let plaintexts = |plain: Plain| {
        let (_, file) = &files[&(plain.layer as usize)];
        let positions = match plain.product {
            Some(product) => {
                let (shape, values) = tensor(file, &format!("products.{}", plain.block));
                values[product as usize * shape[1]..][..shape[1]].to_vec()
            }
            None => tensor(file, &format!("sums.{}", plain.block)).1,
        };
        positions.into_iter().flat_map(|x| vec![x; program.packing.lanes]).collect()
    };
    let graph = Backbone::find("mnist", "lenet5").unwrap().graph().unwrap();
    let images = images(&graph, program.packing.lanes);
    let outputs = interpret(&program, plaintexts, &images);
    let simulated = plan.simulate(&images, Noise::None).unwrap().outputs;
    for (a, b) in outputs.iter().flatten().zip(simulated.iter().flatten()) {
        assert!((a - b).abs() < 1e-9 * b.abs().max(1.0), "{a} instead of {b}");
    }
    let error = plan.write_plaintexts(0, Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "layer 0 is not linear");
}

#[test]
fn damaged_programs_are_refused() {
    let program = plan().program().clone();
    let reason = |damage: &dyn Fn(&mut Program)| {
        let mut damaged = program.clone();
        damage(&mut damaged);
        match Program::from_json(&damaged.to_json().unwrap()) {
            Err(Error::Program(reason)) => reason,
            other => panic!("{:?}", other.map(|_| ())),
        }
    };
    let at = |is_wanted: fn(&Op) -> bool| program.instructions.iter().position(|i| is_wanted(&i.op)).unwrap();
    let (rotation, product) =
        (at(|op| matches!(op, Op::RotateHoisted { .. })), at(|op| matches!(op, Op::MultiplyPlain { .. })));
    let rescaling = at(|op| matches!(op, Op::Rescale { .. }));
    assert_eq!(reason(&|p| p.version = 9), "it has version 9, but this program reads 1");
    assert_eq!(reason(&|p| p.packing.lanes = 3), "3 images cannot share 8192 slots");
    assert_eq!(reason(&|p| p.results = vec![u32::MAX]), "there is no value 4294967295");
    let shorter = reason(&|p| p.input.bases = Vec::new());
    assert_eq!(shorter, "the input does not lie in 1 ciphertexts of 8192 positions");
    let rows = |p: &mut Program| (p.input.shape[1], p.input.row_stride) = (1 << 40, 0);
    assert!(reason(&rows).starts_with("the input does not lie in"));
    assert!(reason(&|p| p.input.row_stride = usize::MAX).starts_with("the input does not lie in"));
    assert!(reason(&|p| p.output.bases[0] = Some(1 << 40)).starts_with("the output does not lie in"));
    let later = reason(&|p| p.instructions[rotation].op = Op::Rotate { a: 1 << 30, by: 1 });
    assert_eq!(later, format!("instruction {rotation}: an operand comes later"));
    let far = reason(&|p| p.instructions[rotation].op = Op::Rotate { a: 0, by: 8192 });
    assert_eq!(far, format!("instruction {rotation}: it rotates by more than all slots"));
    let level = reason(&|p| p.instructions[product].level += 1);
    assert_eq!(level, format!("instruction {product}: its level or scale is not what its operands give"));
    let scale = reason(&|p| p.instructions[rescaling].op = Op::Rescale { a: 0 });
    assert_eq!(scale, format!("instruction {rescaling}: there is nothing to rescale"));
    let layer = reason(&|p| p.instructions[product].layer = 1 << 20);
    assert_eq!(layer, format!("instruction {product}: there is no such layer"));
    assert!(matches!(Program::from_json("{}"), Err(Error::Program(_))));
}
