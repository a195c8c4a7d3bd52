//! Bad input: an error that names it, before anything is written.

mod support;

use support::{FILES, Folder};

/// Runs `train`; it must fail with `parts` in its message.
fn refused(folder: &Folder, arguments: &[&str], parts: &[&str]) {
    let run = folder.train(arguments);
    assert!(matches!(run.code, Some(1 | 2)), "{arguments:?}: {:?} {}", run.code, run.stderr);
    assert!(run.stderr.contains("error: ") && !run.stderr.contains("panicked"), "{}", run.stderr);
    assert!(!run.stdout.contains("epoch "), "{arguments:?}: {}", run.stdout);
    for part in parts {
        assert!(run.stderr.contains(part), "{arguments:?}: `{part}` is not in {}", run.stderr);
    }
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    let folder = Folder::small();
    refused(&folder, &[], &["--params-name <NAME>"]);
    refused(&folder, &["--params-name", "ours"], &["these are the authors' weights; choose another name"]);
    refused(&folder, &["--params-name", "a/b"], &["`a/b`: it is to be a part of a file's name"]);
    let finite = "it must be positive and finite, not ";
    for (arguments, parts) in [
        (
            &["--backbone", "resnet21"][..],
            &["unknown backbone `resnet21` for cifar10; known: resnet20, "][..],
        ),
        (&["--batch-size", "0"], &["'0' for '--batch-size"]),
        (&["--epochs", "0"], &["'0' for '--epochs"]),
        (&["--lr", "nan"], &["'nan' for '--lr", finite]),
        (&["--lr", "-1"], &["'-1' for '--lr", finite]),
        (&["--lr", "inf"], &["'inf' for '--lr", finite]),
        (&["--gamma", "0"], &["'0' for '--gamma", finite]),
        (&["--momentum", "1"], &["'1' for '--momentum", "at least 0 and less than 1, not 1.0"]),
        (&["--warm-up", "-0.5"], &["'-0.5' for '--warm-up"]),
        (&["--weight-decay", "-0.1"], &["'-0.1' for '--weight-decay", "0 or positive, and finite"]),
        (&["--milestones", "3,x"], &["'x' for '--milestones"]),
        (&["--crop-padding", "33"], &["'33' for '--crop-padding"]),
        (&["--crop-padding", "2", "--no-augment"], &["cannot be used with"]),
        (&["--preset", "slow"], &["'slow' for '--preset", "reference, fast"]),
        (&["--seed", "-1"], &["'-1'"]),
        (&["--approx", "alpha=15"], &["'alpha=15' for '--approx", "alpha: ", "whole numbers from 4 to 14"]),
        (&["--approx", "b-relu=5"], &["alpha is missing"]),
        (&["--approx", "alpha=7,b-relu=nan"], &["b-relu: ", "must be positive"]),
        (&["--approx", "alpha"], &["`alpha` is not NAME=VALUE"]),
        (&["--range-penalty", "0.1"], &["--range-penalty 0.1: there is no range without --approx"]),
        (&["--resume", "--force"], &["'--resume' cannot be used with '--force'"]),
        (&["--init", "best"], &["there are no weights weights/cifar10/resnet20_best.safetensors, .pt, .pth"]),
        (&["--init", "no/such.pt"], &["no/such.pt: No such file"]),
        (&["--dataset-path", "no/such"], &["no/such: no such folder"]),
        (&["--dataset-path", "."], &["no CIFAR-10 train images here"]),
        (&["--output", "few/plain_text/train/0000.parquet/x"], &["0000.parquet/x: Not a directory"]),
    ] {
        let start = ["--params-name", "mine", "--limit", "1"];
        refused(&folder, &[&start[..], arguments].concat(), parts);
        assert!(!folder.path(&format!("weights/cifar10/{}", FILES[2])).exists(), "{arguments:?}");
    }
}

#[test]
fn files_that_exist_are_kept_without_force() {
    let folder = Folder::small();
    let run = ["--params-name", "mine", "--dataset-path", "few", "--epochs", "1", "--batch-size", "20"];
    for file in FILES.into_iter().chain(["resnet20_mine.pt"]) {
        let path = format!("weights/cifar10/{file}");
        folder.write(&path, "precious");
        refused(&folder, &run, &[&format!("{path} exists: --resume goes on"), "--force begins anew"]);
        assert_eq!(folder.read(&path), b"precious");
        std::fs::remove_file(folder.path(&path)).unwrap();
    }
    folder.write("weights/cifar10/resnet20_mine.checkpoint.safetensors", "precious");
    folder.succeed(&[&run[..], &["--force"]].concat());
    folder.succeed(&["--params-name", "mine", "--resume"]);
}

#[test]
fn checkpoints_that_cannot_be_resumed_are_refused_by_name() {
    let folder = Folder::new();
    let resume = ["--params-name", "mine", "--resume"];
    let checkpoint = format!("weights/cifar10/{}", FILES[2]);
    let nothing = "there is nothing that --resume can go on with";
    refused(&folder, &resume, &[nothing, &checkpoint, "No such file"]);

    let run = ["--params-name", "mine", "--dataset-path", "few", "--epochs", "2", "--batch-size", "10"];
    folder.succeed(&run);
    for (arguments, parts) in [
        (&["--lr", "0.5"][..], &["--lr 0.5 (the checkpoint has 0.001)"][..]),
        (
            &["--seed", "2", "--no-flip"],
            &["--flip false (the checkpoint has true), --seed 2 (the checkpoint has 1)"],
        ),
        (&["--preset", "fast"], &["--epochs 8 (the checkpoint has 2)", "--schedule one-cycle"]),
        (&["--limit", "10"], &["--limit 10 (the checkpoint has none)"]),
        (&["--approx", "alpha=7"], &["--approx alpha=7,"]),
        (&["--epochs", "1"], &["--epochs 1: the checkpoint is in epoch 2 already"]),
        (
            &["--dataset-path", "data"],
            &["the training images are others than the checkpoint's: 50000 images with", "not 20 images"],
        ),
    ] {
        refused(&folder, &[&resume[..], arguments].concat(), parts);
    }

    let good = folder.read(&checkpoint);
    let weights = folder.read(&format!("weights/cifar10/{}", FILES[0]));
    let format = br#"\"format\":2"#;
    let place = good.windows(format.len()).position(|bytes| bytes == format).unwrap() + format.len() - 1;
    let mut newer = good.clone();
    newer[place] = b'9';
    let unreadable = "not a readable checkpoint (truncated or of another kind?)";
    for (bytes, part) in [
        (&good[..good.len() / 2], ""),
        (&good[..good.len() - 1], ""),
        (&good[..5], ""),
        (b"", ""),
        (b"this is no checkpoint, but a text", ""),
        (&weights, "it holds tensors, but nothing of a training run"),
        (&newer, "it has format 9, but this program reads 1 to 2"),
    ] {
        folder.write(&checkpoint, bytes);
        refused(&folder, &resume, &[nothing, &checkpoint, unreadable, part]);
        assert_eq!(folder.read(&checkpoint), bytes);
    }
    // Numbers that no run comes to. As long as the others, so that the tensors stay where they are.
    for (from, to, part) in [
        (r#"\"batch_size\":10"#, r#"\"batch_size\":00"#, ""),
        (r#"\"batch_size\":10"#, r#"\"batch_size\": 0"#, "2 epochs in batches of 0"),
        (r#"\"crop_padding\":4"#, r#"\"crop_padding\":4e9"#, ""),
        (r#"\"epoch\":2,\"batch\":0"#, r#"\"epoch\":9,\"batch\":0"#, "it is in epoch 9 of 2"),
        (r#"\"epoch\":2,\"batch\":0"#, r#"\"epoch\":1,\"batch\":9"#, "9 batches of 20 images are done"),
        (r#"\"momentum\":0.9"#, r#"\"momentum\":9.0"#, "momentum is 9"),
        (r#"\"lr\":0.001"#, r#"\"lr\":-0.01"#, "lr is -0.01"),
    ] {
        let place = good.windows(from.len()).position(|bytes| bytes == from.as_bytes()).expect(from);
        let edited = [&good[..place], to.as_bytes(), &good[place + from.len()..]].concat();
        folder.write(&checkpoint, &edited);
        refused(&folder, &resume, &[nothing, &checkpoint, unreadable, part]);
    }
    folder.write(&checkpoint, &good);
    folder.succeed(&resume);
}
