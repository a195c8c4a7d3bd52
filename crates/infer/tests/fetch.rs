//! What is missing is fetched, from a folder instead of the network.

mod support;

use std::fs;
use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;

use support::{Folder, demo_weights, hub_folder, whole_batch, without_times};

const BACKBONES: [&str; 9] =
    ["resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "vgg11bn", "vgg13bn", "vgg16bn", "vgg19bn"];

/// A mirror with the authors' archive, whose files are no weights.
fn mirror_of_weights() -> Folder {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for backbone in BACKBONES {
        writer.start_file(format!("{backbone}_ours.pt"), SimpleFileOptions::default()).unwrap();
        writer.write_all(backbone.as_bytes()).unwrap();
    }
    let mirror = Folder::new();
    mirror.write("cifar10.zip", writer.finish().unwrap().into_inner());
    mirror
}

#[test]
fn the_authors_weights_are_fetched_once_and_named_if_they_are_no_good() {
    let (mirror, folder) = (mirror_of_weights(), Folder::new());
    let arguments = ["cifar10", "resnet20", "--report", "r.json", "--from", &mirror.root()];
    for fetched in [true, false] {
        let run = folder.infer(&arguments);
        assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{}", run.stderr);
        let (first, last) = (run.stderr.lines().next().unwrap(), run.stderr.lines().last().unwrap());
        assert!(
            last.starts_with("error: weights/cifar10/resnet20_ours.pt: not a PyTorch checkpoint"),
            "{last}"
        );
        let announced = first.starts_with("Missing: CIFAR-10 networks trained by Lee et al.")
            && first.contains("licence: the authors state none");
        assert_eq!(announced, fetched, "{first}");
        assert!(!run.stderr.contains('\x1b'), "{}", run.stderr);
        for backbone in BACKBONES {
            let path = folder.path(&format!("weights/cifar10/{backbone}_ours.pt"));
            assert_eq!(fs::read_to_string(path).unwrap(), backbone);
        }
        assert_eq!(folder.tree().len(), 2 + BACKBONES.len());
    }
}

#[test]
fn the_images_are_fetched_once_in_whichever_layout_the_mirror_has() {
    let hub = hub_folder();
    let batch = whole_batch();
    let parquet = fs::read(format!("{hub}/plain_text/test/0000.parquet")).unwrap();
    let weights = demo_weights();
    let arguments = ["cifar10", "--params", &weights, "--limit", "20"];
    let expected = Folder::new().report(&[&arguments[..], &["--dataset-path", &hub]].concat());
    for (file, contents, destination) in [
        ("plain_text/test/0000.parquet", &parquet, "datasets/cifar10/plain_text/test/0000.parquet"),
        ("test_batch.bin", &batch, "datasets/cifar10/cifar-10-batches-bin/test_batch.bin"),
    ] {
        let (mirror, folder) = (Folder::new(), Folder::new());
        mirror.write(file, contents);
        let run = folder.succeed(&[&arguments[..], &["--from", &mirror.root()]].concat());
        assert!(run.stderr.starts_with("Missing: CIFAR-10 (Krizhevsky, 2009)"), "{}", run.stderr);
        assert!(run.stdout.starts_with("resnet20 on cifar10: 20 images"), "{}", run.stdout);
        assert_eq!(&fs::read(folder.path(destination)).unwrap(), contents);
        let files = folder.tree().into_iter().filter(|name| folder.path(name).is_file());
        assert_eq!(files.collect::<Vec<_>>(), [destination]);

        let run = folder.succeed(&[&arguments[..], &["--report", "report.json"]].concat());
        assert_eq!(run.stderr, "exact pass over 20 images\napproximate pass over 20 images\n");
        assert_eq!(without_times(folder.json("report.json")), without_times(expected.clone()), "{file}");
    }
}

#[test]
fn a_mirror_without_the_files_is_an_error_that_names_them_and_leaves_nothing() {
    let weights = demo_weights();
    for (arguments, expected) in [
        (&["cifar10"][..], "does not hold cifar10.zip or resnet20_ours.pt"),
        (&["cifar10", "vgg16bn"], "does not hold cifar10.zip or vgg16bn_ours.pt"),
        (&["cifar10", "--params", &weights], "does not hold plain_text/test/0000.parquet"),
    ] {
        let (mirror, folder) = (Folder::new(), Folder::new());
        let run = folder.infer(&[arguments, &["--report", "report.json", "--from", &mirror.root()]].concat());
        assert_eq!(run.code, Some(1), "{}", run.stderr);
        assert!(run.stderr.contains("error: ") && run.stderr.contains(expected), "{}", run.stderr);
        assert!(run.stderr.contains(&mirror.root()), "{}", run.stderr);
        let files = folder.tree().into_iter().filter(|name| folder.path(name).is_file());
        assert_eq!(files.collect::<Vec<_>>(), [""; 0]);
    }
}
