//! No file makes the reader panic, hang or take much memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use tempfile::NamedTempFile;
use torch_checkpoint::{Checkpoint, CheckpointError};
use zip::write::{SimpleFileOptions, ZipWriter};

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

/// The most memory that `work` had at once.
fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = IN_USE.get();
    PEAK.set(before);
    let result = work();
    (result, (PEAK.get() - before) as usize)
}

/// Reads all that can be read.
fn read_all(path: &Path) -> Result<(), CheckpointError> {
    let checkpoint = Checkpoint::open(path)?;
    for tensor in checkpoint.tensors() {
        let values = checkpoint.read_f32(&tensor.name);
        assert!(values.is_err() || tensor.dtype.is_float());
    }
    Ok(())
}

/// A file that is written again and again.
struct Scratch(NamedTempFile);

impl Scratch {
    fn new() -> Self {
        Self(NamedTempFile::new().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&mut self, bytes: &[u8]) {
        let file = self.0.as_file_mut();
        file.rewind().unwrap();
        file.write_all(bytes).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
    }

    /// Reads `bytes` as a file, which must not take much memory.
    fn read(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.write(bytes);
        self.read_again(bytes.len())
    }

    fn read_again(&self, length: usize) -> Result<(), CheckpointError> {
        let (result, peak) = peak(|| read_all(self.path()));
        // The buffers of the decoders and of each read, and what the file itself may need.
        let allowed = (1 << 20) + 256 * length;
        assert!(peak <= allowed, "{peak} bytes for a file of {length}: {result:?}");
        result
    }
}

fn fixtures() -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pt"))
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    assert!(files.len() > 50);
    files
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

#[test]
fn every_truncated_file_is_refused() {
    let mut file = Scratch::new();
    for (path, bytes) in fixtures() {
        file.write(&bytes);
        for length in (0..bytes.len()).rev() {
            file.0.as_file().set_len(length as u64).unwrap();
            assert!(file.read_again(length).is_err(), "{} at {length}", path.display());
        }
    }
}

#[test]
fn changed_bytes_do_no_harm() {
    /// Changes of each fixture.
    const CHANGES: usize = 1000;
    let mut file = Scratch::new();
    let mut random = Random(1);
    for (_, bytes) in fixtures() {
        for _ in 0..CHANGES {
            let mut changed = bytes.clone();
            // Mostly one byte; values that lengths and opcodes have, as well as any.
            for _ in 0..1 + random.below(4) / 3 {
                let at = random.below(changed.len());
                changed[at] = match random.below(4) {
                    0 => [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
                    1 => b"(.0125}])RbQqhjtuse\x80\x81\x8a\x8b\x8c\x93\x94\x95"[random.below(27)],
                    2 => changed[at] ^ (1 << random.below(8)),
                    _ => random.below(256) as u8,
                };
            }
            let _ = file.read(&changed);
        }
    }
}

#[test]
fn random_opcodes_do_no_harm() {
    const OPCODES: &[u8] =
        b"().0125NK\x01IJMFGSTUVXBCaebcdghijlopqrst}]us\x80\x02\x81\x85\x86\x87\x88\x89\x8a\x8b\
        \x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x96RQPb\x00\x01\x02\x03\n";
    let mut file = Scratch::new();
    let mut random = Random(2);
    for _ in 0..20_000 {
        let length = random.below(200);
        let pickle: Vec<u8> = (0..length).map(|_| OPCODES[random.below(OPCODES.len())]).collect();
        let _ = file.read(&legacy(&pickle));
    }
}

/// A legacy file with this pickle and, if the pickle has tensors, the storage '0' of one element.
fn legacy(pickle: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.".to_vec();
    bytes.extend(b"\x80\x02}X\x0d\0\0\0little_endian\x88s.\x80\x02");
    bytes.extend(pickle);
    if pickle.windows(12).any(|window| window == b"FloatStorage") {
        bytes.extend(b".\x80\x02]X\x01\0\0\x000a.");
        bytes.extend(1i64.to_le_bytes());
        bytes.extend(1f32.to_le_bytes());
    } else {
        bytes.extend(b".\x80\x02].");
    }
    bytes
}

/// A zip file with this pickle, compressed.
fn zip(pickle: &[u8]) -> Vec<u8> {
    let mut archive = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    archive.start_file("a/data.pkl", SimpleFileOptions::default()).unwrap();
    archive.write_all(pickle).unwrap();
    archive.finish().unwrap().into_inner()
}

fn repeat(part: &[u8], times: usize) -> Vec<u8> {
    part.repeat(times)
}

/// A tensor of this offset, shape and strides, in a storage that is said to have `elements`.
fn tensor(elements: &str, offset: &str, shape: &str, strides: &str) -> Vec<u8> {
    let numbers = |text: &str| {
        let numbers = text.split_whitespace().map(|n| format!("I{n}\n")).collect::<String>();
        format!("({numbers}t")
    };
    let storage =
        format!("(X\u{7}\0\0\0storagectorch\nFloatStorage\nX\u{1}\0\0\x000X\u{3}\0\0\0cpuI{elements}\ntQ");
    let shape = format!("{}{}", numbers(shape), numbers(strides));
    format!("}}X\u{1}\0\0\0wctorch._utils\n_rebuild_tensor\n({storage}I{offset}\n{shape}tRs").into_bytes()
}

#[test]
fn bombs_are_refused_or_harmless() {
    let million = 1_000_000;
    let nested = |open: &[u8], close: &[u8]| [repeat(open, million), repeat(close, million - 1)].concat();
    // Each of the values is twice the one before, by reference.
    let doubling = |value: &[u8]| {
        let mut pickle = [value, b"q\0"].concat();
        for _ in 0..100_000 {
            pickle.extend(b"h\0h\0\x86q\0");
        }
        pickle
    };
    let long_name = [&b"X\xa0\x86\x01\0"[..], &repeat(b"n", 100_000), b"q\0"].concat();
    let ordered_dicts = {
        let pairs = [&b"](KaKb\x86q\x01"[..], &repeat(b"h\x01", 10_000), b"e\x85q\x02"].concat();
        let calls = repeat(b"ccollections\nOrderedDict\nh\x02R", 100_000);
        [pairs, calls].concat()
    };
    // Files of several MB: only the time and the limit of the pickle hold.
    let large: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nested lists", nested(b"]", b"a"), "a list"),
        ("nested tuples", [&b"N"[..], &repeat(b"\x85", million)].concat(), "a tuple"),
        (
            "nested dicts",
            [repeat(b"}N", million), b"}".to_vec(), repeat(b"s", million)].concat(),
            "without tensors",
        ),
        ("marks", repeat(b"(", million), "the stack is empty"),
        ("doubling", doubling(b"N"), "a tuple"),
        ("doubled text", [long_name.clone(), doubling(b"h\0")].concat(), "a tuple"),
        ("ordered dicts", ordered_dicts, "bytes of memory are needed"),
        ("values", repeat(b"N", 16 * million), "bytes of memory are needed"),
        ("wrapped calls", [&b"ca\nb\n"[..], &repeat(b")R", million)].concat(), "unnamed function"),
        (
            "cyclic parameter",
            b"}X\x01\0\0\0wctorch.nn\nParameter\n)\x81q\0(h\0NNNNtbs".to_vec(),
            "more than 8",
        ),
        ("names", [long_name, repeat(b"h\0h\0\x93", million)].concat(), "it is too long"),
    ];
    // The memory of these must be in proportion to the file.
    let small: Vec<(&str, Vec<u8>, &str)> = vec![
        ("long", b"\x8b\xff\xff\xff\x7f".to_vec(), "2147483647 bytes are needed"),
        ("negative long", b"\x8b\xff\xff\xff\xff".to_vec(), "4294967295 bytes are needed"),
        ("text", b"X\xff\xff\xff\xff".to_vec(), "4294967295 bytes are needed"),
        (
            "text of 8",
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
            "18446744073709551615 bytes are needed",
        ),
        (
            "bytes of 8",
            b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
            "18446744073709551615 bytes are needed",
        ),
        ("frame", b"\x95\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(), "18446744073709551615 bytes are needed"),
        ("memo", b"h\x05".to_vec(), "the memo has no entry 5"),
        ("far memo", b"Nr\xff\xff\xff\xffj\xfe\xff\xff\xff".to_vec(), "the memo has no entry 4294967294"),
        ("memo by text", b"g99999999999999999999\n".to_vec(), "malformed memo index"),
        ("pop below mark", b"N(0(a".to_vec(), "the stack is empty"),
        ("no mark", b"Nt".to_vec(), "there is no mark"),
        ("odd items", b"}(Nu".to_vec(), "the stack is empty"),
        ("item of an int", b"K\x01Na".to_vec(), "a list is needed, not an int"),
        ("call of an int", b"K\x01)R".to_vec(), "a function or class is needed, not an int"),
        ("opcode", b"\xff".to_vec(), "opcode 0xff is not supported"),
        ("extension", b"\x82\x01".to_vec(), "opcode 0x82 is not supported"),
        ("protocol", b"\x80\x06".to_vec(), "pickle protocol 6 is unknown"),
        ("control characters", b"}X\x03\0\0\0\x1b[mctorch\nf\n)Rs".to_vec(), "control characters"),
        ("a list in itself", b"]q\0h\0a".to_vec(), "holds a list"),
        ("huge shape", tensor("1", "0", "4294967296 4294967296 4294967296", "1 1 1"), "overflows"),
        ("huge but empty", tensor("1", "0", "4294967296 4294967296 4294967296 0", "1 1 1 1"), ""),
        ("huge stride", tensor("1", "0", "1 1", "18446744073709551615 18446744073709551615"), ""),
        ("expanded", tensor("1", "0", "1000000 1000000", "0 0"), "in a storage of 1"),
        ("storage too long", tensor("2", "0", "2", "1"), "ends at element 2 of a storage of 1"),
        ("offset", tensor("1", "1", "1", "1"), "ends at element 2 of a storage of 1"),
        ("far offset", tensor("1", "18446744073709551615", "1", "1"), "of a storage of 1"),
        ("negative size", tensor("1", "0", "-1", "1"), "its shape is the number -1"),
        ("negative stride", tensor("1", "0", "1", "-1"), "its strides is the number -1"),
        ("more strides", tensor("1", "0", "1", "1 1"), "malformed: its strides"),
        ("dimensions", tensor("1", "0", &"1 ".repeat(65), &"1 ".repeat(65)), "of 65 dimensions"),
    ];
    let mut file = Scratch::new();
    for (name, pickle, message) in &large {
        for bytes in [legacy(pickle), zip(&[pickle, &b"."[..]].concat())] {
            file.write(&bytes);
            let start = Instant::now();
            let (result, peak) = peak(|| read_all(file.path()));
            let error = result.expect_err(name).to_string();
            assert!(error.contains(message), "{name}: {error}");
            assert!(start.elapsed().as_secs() < 20, "{name}: {:?}", start.elapsed());
            assert!(peak <= 4 * torch_checkpoint::MAX_PICKLE_MEMORY, "{name}: {peak} bytes");
        }
    }
    for (name, pickle, message) in &small {
        match file.read(&legacy(pickle)) {
            Ok(()) => assert!(message.is_empty(), "{name} is read"),
            Err(error) => {
                assert!(!message.is_empty() && error.to_string().contains(message), "{name}: {error}");
            }
        }
    }
}

#[test]
fn storages_that_are_not_there_are_refused() {
    let whole = legacy(&tensor("1", "0", "1", "1"));
    let mut file = Scratch::new();
    file.read(&whole).unwrap();
    let count = whole.len() - 12;
    let cases = [
        (2, "storage '0' takes 16 bytes, and 12 are left"),
        (-1, "the length of storage '0' is -1, not a possible one"),
        (i64::MAX, "the length of storage '0' is 9223372036854775807, not a possible one"),
        (i64::MAX / 4, "storage '0' takes 9223372036854775812 bytes, and 12 are left"),
        (0, "`w` ends at element 1 of a storage of 0"),
    ];
    for (elements, message) in cases {
        let mut bytes = whole.clone();
        bytes[count..count + 8].copy_from_slice(&i64::to_le_bytes(elements));
        let error = file.read(&bytes).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    // A zip archive of the pickle alone.
    let error = file.read(&zip(&[tensor("1", "0", "1", "1"), b".".to_vec()].concat())).unwrap_err();
    assert!(error.to_string().ends_with("`w` is in storage '0', which the file lacks"), "{error}");
}

#[test]
fn compressed_zeros_take_no_more_memory_than_their_tensor() {
    let file = Scratch::new();
    let mut archive = ZipWriter::new(file.0.reopen().unwrap());
    let options = SimpleFileOptions::default();
    archive.start_file("a/data.pkl", options).unwrap();
    archive.write_all(&tensor("1000", "0", "1000", "1")).unwrap();
    archive.write_all(b".").unwrap();
    archive.start_file("a/data/0", options).unwrap();
    for _ in 0..64 {
        archive.write_all(&vec![0; 1 << 20]).unwrap();
    }
    archive.finish().unwrap();
    assert!(file.0.as_file().metadata().unwrap().len() < 100_000);
    let (result, peak) = peak(|| read_all(file.path()));
    result.unwrap();
    assert!(peak < 1 << 20, "{peak} bytes");
}
