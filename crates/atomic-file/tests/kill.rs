//! A process that writes all the time and is killed, again and again.

#![cfg(unix)] // Elsewhere only the age of a file tells whether somebody still writes it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use atomic_file::{Temporaries, write};

mod support;

use support::names;

/// Where the child writes to.
const FOLDER: &str = "ATOMIC_FILE_TEST_FOLDER";

/// The contents that only the call after the last kill writes.
const LAST: &[u8] = b"the last one";

/// No test, but what the child executes.
#[test]
#[ignore = "the test below runs it in a process of its own"]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let contents = vec![b'x'; 1 << 20];
    println!("ready");
    loop {
        write(&Path::new(&folder).join("report.json"), &contents).unwrap();
    }
}

#[test]
fn two_hundred_killed_processes_leave_nothing_that_the_next_call_does_not_remove() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    let mut left = 0;
    for round in 0..200 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--ignored", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with("ready")));
        // From before the first byte to after several files.
        thread::sleep(Duration::from_micros(round * 97 % 5000));
        child.kill().unwrap();
        child.wait().unwrap();
        left += names(folder.path()).iter().filter(|name| name.starts_with(".writing-")).count();
        if path.exists() {
            assert_eq!(fs::read(&path).unwrap(), vec![b'x'; 1 << 20], "round {round}");
        }
    }
    assert!(left > 0, "no process was killed while it was writing, so this test has tested nothing");
    write(&path, LAST).unwrap();
    assert_eq!(names(folder.path()), ["report.json"]);
    assert_eq!(fs::read(&path).unwrap(), LAST);
}

#[test]
fn files_of_others_stay_and_so_does_what_is_being_written() {
    const FILES: Temporaries = Temporaries { prefix: ".writing-", suffix: "", shared: false };
    let folder = tempfile::tempdir().unwrap();
    let inside = |name: &str| folder.path().join(name);
    let being_written = FILES.create(folder.path()).unwrap();
    for name in
        [".writing-abc", ".writing-abcdefg", ".writing-abc-ef", "writing-abcdef", ".fetch-abcdef.part"]
    {
        fs::write(inside(name), name).unwrap();
    }
    fs::create_dir(inside(".writing-folder")).unwrap();
    std::os::unix::fs::symlink(inside(".writing-abc"), inside(".writing-link00")).unwrap();
    fs::write(inside("report.json"), "").unwrap();
    let before = names(folder.path());
    fs::write(inside(".writing-aB3dE6"), "left").unwrap();
    write(&inside("report.json"), b"text").unwrap();
    assert_eq!(names(folder.path()), before);
    assert!(being_written.path().exists());
}

#[test]
fn threads_that_write_into_one_folder_do_not_remove_each_others_files() {
    let folder = tempfile::tempdir().unwrap();
    thread::scope(|scope| {
        for thread in 0..8 {
            let path = folder.path().join(format!("{thread}.json"));
            scope.spawn(move || (0..100).for_each(|round| write(&path, &[thread, round]).unwrap()));
        }
    });
    assert_eq!(names(folder.path()), [0, 1, 2, 3, 4, 5, 6, 7].map(|thread| format!("{thread}.json")));
}
