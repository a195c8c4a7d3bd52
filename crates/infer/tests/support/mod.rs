//! The built binary in a folder of its own, and what it writes.

#![allow(dead_code)] // Each test binary uses its own part.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use tempfile::TempDir;

/// Bytes of a record of CIFAR-10's binary version.
pub const RECORD: usize = 3073;

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The weights of the demo's ResNet-20.
pub fn demo_weights() -> String {
    utf8(&repository("weights/demo/resnet20.safetensors"))
}

/// A folder with the demo's first 20 images as the Hugging Face hub's parquet.
pub fn hub_folder() -> String {
    utf8(&repository("crates/approx-data/tests/fixtures/hub"))
}

/// The demo's 1,000 images ten times over: a complete batch file.
pub fn whole_batch() -> Vec<u8> {
    fs::read(repository("datasets/demo/test_batch_1000.bin")).unwrap().repeat(10)
}

pub fn utf8(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A folder in which `data` is CIFAR-10's, with the demo's images.
pub fn folder_with_images() -> Folder {
    let folder = Folder::new();
    folder.write("data/test_batch.bin", whole_batch());
    folder
}

/// The command on the first 96 of these images, with weights.
pub fn with_data<'a>(command: &[&'a str], params: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let data = ["--dataset-path", "data", "--params", params, "--limit", "96", "--batch-inf", "32"];
    [command, &data, more].concat()
}

/// A working directory.
pub struct Folder(TempDir);

/// How a run ended and what it printed.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The folder's own path.
    pub fn root(&self) -> String {
        utf8(self.0.path())
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), contents).unwrap();
    }

    /// All files and folders in it, relative and sorted.
    pub fn tree(&self) -> Vec<String> {
        fn walk(folder: &Path, paths: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, paths);
                }
                paths.push(path);
            }
        }
        let mut paths = Vec::new();
        walk(self.0.path(), &mut paths);
        let mut names: Vec<_> =
            paths.iter().map(|path| utf8(path.strip_prefix(self.0.path()).unwrap())).collect();
        names.sort();
        names
    }

    /// Runs `infer` here.
    pub fn infer(&self, arguments: &[&str]) -> Run {
        finished(self.command(arguments).output().unwrap())
    }

    /// Starts `infer` here.
    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_infer"));
        // Would colour the messages of a pipe, too.
        command.env_remove("CLICOLOR_FORCE").args(arguments).current_dir(self.0.path());
        // The time in a page.
        command.env("SOURCE_DATE_EPOCH", "1795541400");
        command
    }

    /// Runs `infer` here, which must succeed.
    pub fn succeed(&self, arguments: &[&str]) -> Run {
        let run = self.infer(arguments);
        assert_eq!(run.code, Some(0), "{arguments:?}: {}", run.stderr);
        run
    }

    /// The report of a run that must succeed.
    pub fn report(&self, arguments: &[&str]) -> Value {
        self.succeed(&[arguments, &["--report", "report.json"]].concat());
        self.json("report.json")
    }

    /// The logits of a run that must succeed.
    pub fn logits(&self, arguments: &[&str]) -> Logits {
        self.succeed(&[arguments, &["--logits", "logits.safetensors"]].concat());
        Logits::read(&self.path("logits.safetensors"))
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap()
    }
}

/// What a process that was started came to.
pub fn wait(child: Child) -> Run {
    finished(child.wait_with_output().unwrap())
}

fn finished(Output { status, stdout, stderr }: Output) -> Run {
    Run {
        code: status.code(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

/// What `--logits` writes.
#[derive(Debug, PartialEq)]
pub struct Logits {
    pub classes: usize,
    pub exact: Vec<f32>,
    pub approx: Vec<f32>,
    pub labels: Vec<i64>,
}

impl Logits {
    pub fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.names().len(), 3);
        let images = file.tensor("labels").unwrap().shape()[0];
        let logits = |name: &str| -> (usize, Vec<f32>) {
            let tensor = file.tensor(name).unwrap();
            let &[rows, classes] = tensor.shape() else { panic!("{name}: {:?}", tensor.shape()) };
            assert_eq!((tensor.dtype(), rows), (Dtype::F32, images), "{name}");
            let values = tensor.data().chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
            (classes, values.collect())
        };
        let labels = file.tensor("labels").unwrap();
        assert_eq!((labels.dtype(), labels.shape()), (Dtype::I64, &[images][..]));
        let labels = labels.data().chunks(8).map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap()));
        let ((classes, exact), (_, approx)) = (logits("exact"), logits("approx"));
        Self { classes, exact, approx, labels: labels.collect() }
    }

    /// The classes that these logits choose.
    fn classes(&self, logits: &[f32]) -> Vec<i64> {
        let largest = |row: &[f32]| (0..row.len()).rev().max_by(|&i, &j| row[i].total_cmp(&row[j])).unwrap();
        logits.chunks(self.classes).map(|row| largest(row) as i64).collect()
    }

    /// The classes that the exact and the approximate network choose.
    pub fn predictions(&self) -> [Vec<i64>; 2] {
        [self.classes(&self.exact), self.classes(&self.approx)]
    }

    /// The share of images for which `a` and `b` are the same class.
    pub fn share(&self, a: &[i64], b: &[i64]) -> f64 {
        a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / self.labels.len() as f64
    }

    /// The largest difference between the two networks' logits.
    pub fn largest_difference(&self) -> f32 {
        self.exact.iter().zip(&self.approx).map(|(e, a)| (e - a).abs()).fold(0.0, f32::max)
    }
}

/// The report without what differs from run to run.
pub fn without_times(mut report: Value) -> Value {
    for network in ["exact", "approx"] {
        let fields = report[network].as_object_mut().unwrap();
        let differs = ["seconds", "images_per_second", "search_seconds", "peak_memory_bytes"];
        fields.retain(|name, _| !differs.contains(&name.as_str()));
    }
    report
}

/// A number of a report.
pub fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}
