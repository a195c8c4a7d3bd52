//! What a path may be: a new file, an old one, a link, a pipe, a folder, nothing that can be written.

use std::fs;
use std::path::Path;

use atomic_file::{check_folder, check_writable, write};

mod support;

use support::names;

#[test]
fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    write(&path, b"a longer one").unwrap();
    write(&path, b"two").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"two");
    assert_eq!(names(folder.path()), ["report.json"]);
}

#[test]
fn what_cannot_be_written_is_named_before_the_work_and_nothing_is_created() {
    let folder = tempfile::tempdir().unwrap();
    let inside = |name: &str| folder.path().join(name);
    fs::write(inside("file"), "").unwrap();
    for (name, expected) in [
        ("", "s a directory"),
        ("new/", "new/: is a directory"),
        ("no/such/report.json", "no/such/report.json: No such file or directory"),
        ("file/inner", "file/inner: Not a directory"),
    ] {
        for error in [check_writable(&inside(name)), write(&inside(name), b"text")] {
            let error = error.unwrap_err().to_string();
            assert!(error.contains(expected), "{name}: {error}");
        }
    }
    let error = check_writable(&inside("no/such/report.json")).unwrap_err().to_string();
    assert!(error.ends_with(&format!("create the folder {} first", inside("no/such").display())), "{error}");
    for name in ["file", "file/inner"] {
        let error = check_folder(&inside(name)).unwrap_err().to_string();
        assert!(error.contains(&format!("{name}: not a directory")), "{error}");
    }
    check_writable(&inside("report.json")).unwrap();
    check_folder(&inside("no/such")).unwrap();
    assert_eq!(names(folder.path()), ["file"]);
}

#[cfg(unix)]
mod unix {
    use std::io::Read;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;

    use super::*;

    #[test]
    fn a_link_stays_a_link_and_its_target_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let inside = |name: &str| folder.path().join(name);
        fs::create_dir_all(inside("results/old")).unwrap();
        fs::write(inside("results/report.json"), "old").unwrap();
        // Relative, absolute, one behind the other, and one whose target is yet to be written.
        symlink("results/report.json", inside("relative")).unwrap();
        symlink(inside("results/report.json"), inside("absolute")).unwrap();
        symlink("../../relative", inside("results/old/chain")).unwrap();
        symlink("results/new.json", inside("dangling")).unwrap();
        for (link, target) in [
            ("relative", "results/report.json"),
            ("absolute", "results/report.json"),
            ("results/old/chain", "results/report.json"),
            ("dangling", "results/new.json"),
        ] {
            check_writable(&inside(link)).unwrap();
            write(&inside(link), link.as_bytes()).unwrap();
            assert!(inside(link).is_symlink(), "{link}");
            assert!(!inside(target).is_symlink(), "{link}");
            assert_eq!(fs::read(inside(target)).unwrap(), link.as_bytes(), "{link}");
        }
        assert_eq!(names(folder.path()), ["absolute", "dangling", "relative", "results"]);
        assert_eq!(names(&inside("results")), ["new.json", "old", "report.json"]);

        symlink("results", inside("to_folder")).unwrap();
        symlink("circle", inside("circle")).unwrap();
        for (link, expected) in [("to_folder", "is a directory"), ("circle", "too many symbolic links")] {
            let error = write(&inside(link), b"text").unwrap_err().to_string();
            assert!(error.contains(expected), "{link}: {error}");
        }
    }

    #[test]
    fn a_new_file_can_be_read_by_all_and_an_old_one_keeps_its_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        write(&path, b"one").unwrap();
        assert_eq!(mode(), 0o644);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        write(&path, b"two").unwrap();
        assert_eq!((mode(), fs::read(&path).unwrap()), (0o600, b"two".to_vec()));
    }

    #[test]
    fn a_pipe_and_a_device_are_written_to_directly() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        check_writable(&path).unwrap();
        let reader = {
            let path = path.clone();
            std::thread::spawn(move || {
                let mut text = String::new();
                fs::File::open(path).unwrap().read_to_string(&mut text).unwrap();
                text
            })
        };
        write(&path, b"through the pipe").unwrap();
        assert_eq!(reader.join().unwrap(), "through the pipe");
        assert_eq!(names(folder.path()), ["pipe"]);
        for device in ["/dev/null", "/dev/stdout"] {
            check_writable(Path::new(device)).unwrap();
            write(Path::new(device), b"").unwrap();
        }
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
