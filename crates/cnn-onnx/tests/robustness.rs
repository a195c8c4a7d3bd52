//! No file makes the reader panic, hang or take much memory.
//!
//! The default tests change each fixture some hundred times. A long run:
//!
//! ```text
//! CNN_ONNX_CHANGES=1000000 cargo test -p cnn-onnx --test robustness -- --ignored --nocapture
//! ```

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use cnn_onnx::{Model, OnnxError};
use common::fixture;

thread_local! {
    static IN_USE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, which notes how much the thread has.
struct Counting;

fn count(bytes: isize) {
    // A thread that ends frees memory after its counters are gone.
    let _ = IN_USE.try_with(|in_use| {
        in_use.set(in_use.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(in_use.get())));
    });
}

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as for this function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as for this function.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a file of this length may take at once: constant arithmetic may make some numbers whatever the length, and the
/// smallest node has three bytes in a file.
fn allowed(length: usize) -> usize {
    (4 << 20) + 1024 * length
}

/// Opens and reads all that can be read; gives the most memory that it took at once.
fn read(open: impl FnOnce() -> Result<Model, OnnxError>, length: usize) -> (Result<(), OnnxError>, usize) {
    let before = IN_USE.get();
    PEAK.set(before);
    let result = open().and_then(|model| {
        for param in model.graph.params() {
            let values = model.params.read(&param.name)?;
            assert_eq!(values.len(), param.shape.iter().product::<usize>());
        }
        Ok(())
    });
    let peak = (PEAK.get() - before) as usize;
    assert!(peak <= allowed(length), "{peak} bytes for a file of {length}: {result:?}");
    // The message of an error must not fail either.
    let result = result.inspect_err(|error| assert!(!error.to_string().is_empty()));
    (result, peak)
}

fn fixtures() -> Vec<Vec<u8>> {
    let mut paths: Vec<_> =
        std::fs::read_dir(fixture("")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    paths.sort();
    assert!(paths.len() >= 14);
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Random numbers, the same in every run (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }
}

/// A file with some of its bytes changed, cut, doubled or taken from elsewhere in it.
fn change(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    for _ in 0..1 + random.below(8) / 5 {
        let at = random.below(changed.len());
        match random.below(10) {
            0 => changed.truncate(at + 1),
            1 => {
                let end = (at + 1 + random.below(64)).min(changed.len());
                changed.drain(at..end);
            }
            2 => {
                let end = (at + 1 + random.below(64)).min(changed.len());
                let part = changed[at..end].to_vec();
                changed.splice(at..at, part);
            }
            3 => {
                let from = random.below(changed.len());
                let length = (1 + random.below(16)).min(changed.len() - at.max(from));
                changed.copy_within(from..from + length, at);
            }
            4 => {
                // A long number.
                let end = (at + 1 + random.below(9)).min(changed.len());
                changed[at..end].fill(0xff);
            }
            5..=7 => changed[at] = [0, 1, 2, 0x7f, 0x80, 0xff, 0x0a, 0x12][random.below(8)],
            _ => changed[at] = random.below(256) as u8,
        }
        if changed.is_empty() {
            changed.push(0);
        }
    }
    changed
}

/// Changes all fixtures in turn, so many times in all; gives how many could be read and the largest share of memory.
fn change_all(changes: usize, seed: u64) -> (usize, f64) {
    let (fixtures, mut random) = (fixtures(), Random(seed));
    let (mut good, mut worst) = (0, 0.0f64);
    for i in 0..changes {
        let changed = change(&fixtures[i % fixtures.len()], &mut random);
        let length = changed.len();
        let (result, peak) = read(|| Model::from_bytes(changed), length);
        good += usize::from(result.is_ok());
        worst = worst.max(peak as f64 / length as f64);
    }
    (good, worst)
}

#[test]
fn truncated_files_do_no_harm() {
    for bytes in fixtures() {
        let step = (bytes.len() / 500).max(1);
        for length in (0..bytes.len()).step_by(step) {
            let part = bytes[..length].to_vec();
            let _ = read(|| Model::from_bytes(part), length);
        }
    }
}

#[test]
fn changed_bytes_do_no_harm() {
    let (good, _) = change_all(6000, 1);
    // Many changes are of weights or names, so the rest of the reader is reached.
    assert!(good > 500, "{good}");
}

#[test]
#[ignore = "takes minutes"]
fn many_changed_bytes_do_no_harm() {
    let changes = std::env::var("CNN_ONNX_CHANGES").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let (good, worst) = change_all(changes, 2);
    println!(
        "{changes} changed files, {good} of them still networks; at most {worst:.1} bytes a byte of the file"
    );
}

#[test]
fn a_changed_file_with_external_data_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("external.data"), folder.path().join("external.data")).unwrap();
    let (model, mut random) = (std::fs::read(fixture("external.onnx")).unwrap(), Random(3));
    let path = folder.path().join("model.onnx");
    for _ in 0..1000 {
        let changed = change(&model, &mut random);
        std::fs::write(&path, &changed).unwrap();
        let _ = read(|| Model::open(&path), changed.len());
    }
}

/// A protobuf field with bytes.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = content.len();
    while length > 0x7f {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend(content);
    bytes
}

/// A file with these fields of a network, an input of 1×3×8×8 numbers called `x`, and the output `y`.
fn file(network: &[u8]) -> Vec<u8> {
    let shape: Vec<u8> = [1, 3, 8, 8].iter().flat_map(|dim| field(1, &[1 << 3, *dim])).collect();
    let kind = [vec![1 << 3, 1], field(2, &shape)].concat();
    let input = [field(1, b"x"), field(2, &field(1, &kind))].concat();
    let graph = [field(11, &input), field(12, &field(1, b"y")), network.to_vec()].concat();
    [field(7, &graph), field(8, &[2 << 3, 17])].concat()
}

fn node(operator: &str, inputs: &[&str], outputs: &[&str], rest: &[u8]) -> Vec<u8> {
    let inputs = inputs.iter().flat_map(|name| field(1, name.as_bytes()));
    let outputs = outputs.iter().flat_map(|name| field(2, name.as_bytes()));
    let bytes: Vec<u8> =
        inputs.chain(outputs).chain(field(4, operator.as_bytes())).chain(rest.to_vec()).collect();
    field(1, &bytes)
}

#[test]
fn small_files_that_ask_for_much_get_little() {
    let relu = node("Relu", &["x"], &["y"], &[]);
    assert!(Model::from_bytes(file(&relu)).is_ok());
    let int64 = |dims: &[u8], values: &[i64]| {
        let dims = dims.iter().flat_map(|dim| [1 << 3, *dim]).collect::<Vec<u8>>();
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        [dims, vec![2 << 3, 7], field(9, &raw)].concat()
    };
    let named = |name: &str, tensor: Vec<u8>| field(5, &[tensor, field(8, name.as_bytes())].concat());
    let cases = [
        // Empty messages, each of which is large in memory.
        [relu.clone(), field(1, b"").repeat(20_000)].concat(),
        [relu.clone(), field(5, b"").repeat(20_000)].concat(),
        // Constants of a large shape, again and again.
        [
            named("n", int64(&[1], &[1 << 30])),
            node("ConstantOfShape", &["n"], &["c"], &[]),
            node("Add", &["x", "c"], &["y"], &[]),
        ]
        .concat(),
        {
            let mut nodes = named("n", int64(&[2], &[200, 200]));
            for i in 0..1000 {
                nodes.extend(node("ConstantOfShape", &["n"], &[&format!("c{i}")], &[]));
                nodes.extend(node("Add", &["x", &format!("c{i}")], &[&format!("d{i}")], &[]));
            }
            [nodes, node("Relu", &["d999"], &["y"], &[])].concat()
        },
        // A long name for each of many outputs.
        {
            let name = field(3, &[b'n'; 20_000]);
            let names: Vec<String> = (0..3).map(|i| format!("p{i}")).collect();
            let outputs: Vec<&str> = names.iter().map(String::as_str).collect();
            let axis =
                field(5, &[field(1, b"axis"), vec![3 << 3, 1], vec![20 << 3 & 0x7f | 0x80, 1, 2]].concat());
            let split = node("Split", &["x"], &outputs, &[name, axis].concat());
            [split, node("Concat", &outputs, &["y"], &[])].concat()
        },
        // A weight without numbers for very many outputs.
        [
            field(
                5,
                &[vec![1 << 3, 0xff, 0xff, 0xff, 0xff, 7, 1 << 3, 0, 2 << 3, 1], field(8, b"w")].concat(),
            ),
            node("Flatten", &["x"], &["f"], &[]),
            node("Gemm", &["f", "w"], &["y"], &[]),
        ]
        .concat(),
        // A chain in which each value is used twice: as many paths as 2^100.
        {
            let mut nodes = node("Sigmoid", &["x"], &["v0"], &[]);
            for i in 0..100 {
                let (from, to) = (format!("v{i}"), format!("v{}", i + 1));
                nodes.extend(node("Mul", &[&from, &from], &[&to], &[]));
            }
            [nodes, node("Relu", &["v100"], &["y"], &[])].concat()
        },
    ];
    for (i, case) in cases.iter().enumerate() {
        let bytes = file(case);
        let length = bytes.len();
        let started = std::time::Instant::now();
        let (result, _) = read(|| Model::from_bytes(bytes), length);
        assert!(started.elapsed().as_secs() < 5, "case {i}: {result:?}");
    }
}

#[test]
fn deep_messages_are_skipped_or_refused() {
    // An attribute's subgraph in a subgraph, and groups in groups, 100,000 deep.
    let mut subgraph = Vec::new();
    for _ in 0..1000 {
        subgraph = field(6, &field(1, &field(5, &subgraph)));
    }
    let inside = node("If", &["x"], &["y"], &field(5, &subgraph));
    let (result, _) = read(|| Model::from_bytes(file(&inside)), 100_000);
    assert!(matches!(result, Err(OnnxError::Unsupported(_))), "{result:?}");
    let groups = vec![15 << 3 | 3; 100_000];
    let (result, _) = read(|| Model::from_bytes(groups), 100_000);
    assert!(matches!(result, Err(OnnxError::Format(_))), "{result:?}");
}

#[test]
fn external_data_is_read_only_inside_the_folder() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("model");
    std::fs::create_dir(&folder).unwrap();
    let data = std::fs::read(fixture("external.data")).unwrap();
    for name in ["ternal.data", "ternal.dat", "tern."] {
        std::fs::write(outer.path().join(name), &data).unwrap();
    }
    std::fs::write(folder.join("external.data"), &data).unwrap();
    std::fs::create_dir(folder.join("e")).unwrap();
    std::fs::write(folder.join("e/ternal.data"), &data).unwrap();
    let model = std::fs::read(fixture("external.onnx")).unwrap();
    let with = |location: &str| {
        let mut bytes = model.clone();
        let old = b"external.data";
        assert_eq!(location.len(), old.len());
        while let Some(at) = bytes.windows(old.len()).position(|part| part == old) {
            bytes[at..at + old.len()].copy_from_slice(location.as_bytes());
        }
        let path = folder.join("model.onnx");
        std::fs::write(&path, bytes).unwrap();
        Model::open(path)
    };
    assert!(Model::open(fixture("external.onnx")).is_ok());
    assert!(with("./xternal.dat").is_err());
    assert!(with("e/ternal.data").is_ok());
    let absolute = "/xternal.data";
    for location in ["../ternal.dat", absolute, "..\\ternal.dat", "e/../../tern.", "missing.data."] {
        let error = with(location).unwrap_err();
        assert!(matches!(error, OnnxError::Tensor { .. }), "{location}: {error}");
    }
    #[cfg(unix)]
    {
        // A link to outside, a folder, and a pipe, which must not be waited for.
        std::os::unix::fs::symlink(outer.path().join("ternal.data"), folder.join("outsidelink..")).unwrap();
        let error = with("outsidelink..").unwrap_err().to_string();
        assert!(error.contains("link to outside"), "{error}");
        std::fs::create_dir(folder.join("folder.data..")).unwrap();
        assert!(with("folder.data..").unwrap_err().to_string().contains("not a regular file"));
    }
    // A file that is too short.
    std::fs::write(folder.join("shorted.data."), &data[..data.len() - 1]).unwrap();
    let error = with("shorted.data.").unwrap_err().to_string();
    assert!(error.contains("are not in shorted.data., which has"), "{error}");
    // A file that was cut after the model was opened.
    let path = folder.join("gone.onnx");
    std::fs::copy(fixture("external.onnx"), &path).unwrap();
    let model = Model::open(&path).unwrap();
    std::fs::write(folder.join("external.data"), b"").unwrap();
    assert!(matches!(model.params.read("fc.weight"), Err(OnnxError::Io { .. })));
    assert!(matches!(Model::open(Path::new("/")), Err(OnnxError::Io { .. })));
}
