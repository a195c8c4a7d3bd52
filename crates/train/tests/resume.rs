//! Runs that are killed, interrupted or continued end with the same files as those that are not.

mod support;

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use support::{FILES, Folder, wait};

/// Three epochs of six batches, the last of them smaller.
const RUN: [&str; 15] = [
    "--params-name",
    "mine",
    "--dataset-path",
    "data",
    "--limit",
    "88",
    "--limit-test",
    "60",
    "--batch-size",
    "16",
    "--epochs",
    "3",
    "--preset",
    "fast",
    "--output",
];

fn run<'a>(output: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&RUN[..], &[output], more].concat()
}

/// `--resume`, if there is anything to go on with.
fn go_on(folder: &Folder, output: &str) -> &'static [&'static str] {
    if folder.path(&format!("{output}/{}", FILES[2])).exists() { &["--resume"] } else { &[] }
}

fn assert_same(folder: &Folder, output: &str, expected: &[Vec<u8>], what: &str) {
    for ((file, found), expected) in FILES.iter().zip(folder.outputs(output)).zip(expected) {
        assert!(found == *expected, "{what}: {file} is another");
    }
}

#[test]
fn runs_that_are_killed_go_on_to_the_same_files() {
    let folder = Folder::new();
    let start = Instant::now();
    folder.succeed(&run("whole", &[]));
    let whole = start.elapsed();
    let expected = folder.outputs("whole");

    // The same seed gives the same files.
    folder.succeed(&run("again", &[]));
    assert_same(&folder, "again", &expected, "a second run");

    // At any time: again and again a little after the start, and from the beginning, sooner, if a run was done by then.
    let (mut kills, mut delay) = (0, whole.mul_f64(0.2));
    while kills < 6 {
        let mut child = folder.start(&run("killed", go_on(&folder, "killed")));
        sleep(delay);
        child.kill().unwrap();
        match wait(child).code {
            None => kills += 1,
            Some(_) => {
                fs::remove_dir_all(folder.path("killed")).unwrap();
                delay /= 2;
            }
        }
    }
    folder.succeed(&run("killed", go_on(&folder, "killed")));
    assert_same(&folder, "killed", &expected, "killed at any time");

    // While something is written: the first checkpoint, the weights, the last file before the checkpoint.
    fs::create_dir(folder.path("writing")).unwrap();
    let moments: [fn(&str) -> bool; 3] =
        [|name| name.starts_with(".writing-"), |name| name == FILES[0], |name| name == FILES[4]];
    for accepts in moments {
        let mut child = folder.start(&run("writing", go_on(&folder, "writing")));
        folder.wait_for("writing", accepts);
        child.kill().unwrap();
        assert_eq!(wait(child).code, None);
        for leftover in fs::read_dir(folder.path("writing")).unwrap().flatten() {
            if leftover.file_name().to_string_lossy().starts_with(".writing-") {
                fs::remove_file(leftover.path()).unwrap();
            }
        }
    }
    folder.succeed(&run("writing", &["--resume"]));
    assert_same(&folder, "writing", &expected, "killed while writing");

    // By its own recipe, and once it is done, there is nothing left to do.
    let run = folder.succeed(&["--params-name", "mine", "--output", "killed", "--resume"]);
    assert_eq!(
        run.stdout.lines().filter(|line| line.starts_with(char::is_numeric)).count(),
        0,
        "{}",
        run.stdout
    );
    assert_same(&folder, "killed", &expected, "resumed after the end");
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_in_the_middle_of_an_epoch() {
    let folder = Folder::new();
    folder.succeed(&run("whole", &[]));
    let child = folder.start(&run("stopped", &[]));
    folder.wait_for("stopped", |name| name == FILES[2]);
    sleep(Duration::from_millis(60));
    // The shell's own, so that no tool has to be there.
    let sent = Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status().unwrap();
    assert!(sent.success());
    let stopped = wait(child);
    assert_eq!(stopped.code, Some(130), "{}", stopped.stderr);
    assert!(stopped.stderr.contains("stopping after this batch"), "{}", stopped.stderr);
    assert!(stopped.stderr.contains("of 88 images, and saved"), "{}", stopped.stderr);
    let resumed = folder.succeed(&run("stopped", &["--resume"]));
    assert!(resumed.stdout.contains("goes on in epoch "), "{}", resumed.stdout);
    assert_same(&folder, "stopped", &folder.outputs("whole"), "after Ctrl-C");
}

#[test]
fn a_schedule_of_steps_can_be_made_longer() {
    let folder = Folder::small();
    let arguments = |output, more: &[&'static str]| {
        let run =
            ["--params-name", "mine", "--dataset-path", "few", "--batch-size", "10", "--output", output];
        [&run[..], more].concat()
    };
    folder.succeed(&arguments("whole", &["--epochs", "3"]));
    folder.succeed(&arguments("longer", &["--epochs", "1"]));
    let run = folder.succeed(&arguments("longer", &["--epochs", "3", "--resume"]));
    assert!(run.stdout.contains("\n2/3 ") && run.stdout.contains("\n3/3 "), "{}", run.stdout);
    for file in [FILES[2], FILES[3], FILES[4]] {
        assert!(folder.read(&format!("whole/{file}")) == folder.read(&format!("longer/{file}")), "{file}");
    }
}

/// VGG has dropout, whose units are chosen anew in each step.
#[test]
fn dropout_goes_on_as_it_would_have() {
    let folder = Folder::small();
    let arguments = |output, epochs, more: &[&'static str]| {
        let run =
            ["--backbone", "vgg11bn", "--params-name", "mine", "--dataset-path", "few", "--limit", "12"];
        let numbers = ["--limit-test", "4", "--batch-size", "4", "--epochs", epochs, "--output", output];
        [&run[..], &numbers, more].concat()
    };
    folder.succeed(&arguments("whole", "2", &[]));
    folder.succeed(&arguments("longer", "1", &[]));
    folder.succeed(&arguments("longer", "2", &["--resume"]));
    let file = "vgg11bn_mine.checkpoint.safetensors";
    assert!(folder.read(&format!("whole/{file}")) == folder.read(&format!("longer/{file}")));
}
