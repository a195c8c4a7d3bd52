//! The built binary in a folder of its own, and what it writes.

#![allow(dead_code)] // Each test binary uses its own part.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// What a run with `--params-name mine` writes.
pub const FILES: [&str; 5] = [
    "resnet20_mine.safetensors",
    "resnet20_mine-best.safetensors",
    "resnet20_mine.checkpoint.safetensors",
    "resnet20_mine.history.csv",
    "resnet20_mine.svg",
];

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// A working directory with the demo's images as CIFAR-10's in `data`, and 20 of them in `few`.
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
        let folder = Self(tempfile::tempdir().unwrap());
        // The first 1,000 images are those of the test, too.
        let batch = fs::read(repository("datasets/demo/test_batch_1000.bin")).unwrap().repeat(10);
        folder.write("data/test_batch.bin", batch);
        for i in 1..=5 {
            let link = folder.path(&format!("data/data_batch_{i}.bin"));
            fs::hard_link(folder.path("data/test_batch.bin"), link).unwrap();
        }
        folder.with_few()
    }

    /// Without `data`.
    pub fn small() -> Self {
        Self(tempfile::tempdir().unwrap()).with_few()
    }

    fn with_few(self) -> Self {
        let parquet = repository("crates/approx-data/tests/fixtures/hub/plain_text/test/0000.parquet");
        for part in ["train", "test"] {
            self.write(&format!("few/plain_text/{part}/0000.parquet"), fs::read(&parquet).unwrap());
        }
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), contents).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The contents of all files of a run in a folder of outputs.
    pub fn outputs(&self, output: &str) -> Vec<Vec<u8>> {
        FILES.iter().map(|file| self.read(&format!("{output}/{file}"))).collect()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
        // Would colour the messages of a pipe, too.
        command.env_remove("CLICOLOR_FORCE").args(arguments).current_dir(self.0.path());
        command
    }

    /// Runs `train` here.
    pub fn train(&self, arguments: &[&str]) -> Run {
        finished(self.command(arguments).output().unwrap())
    }

    /// Runs `train` here, which must succeed.
    pub fn succeed(&self, arguments: &[&str]) -> Run {
        let run = self.train(arguments);
        assert_eq!(run.code, Some(0), "{arguments:?}: {}", run.stderr);
        run
    }

    /// Starts `train` here.
    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Waits until there is a file in `folder` whose name is accepted.
    pub fn wait_for(&self, folder: &str, accepts: impl Fn(&str) -> bool) {
        let start = Instant::now();
        loop {
            let entries = fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
            if entries.into_iter().any(|entry| accepts(&entry.file_name().to_string_lossy())) {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "nothing of the kind in {folder}");
            sleep(Duration::from_micros(200));
        }
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
