//! The built binary, as one calls it, with a mirror directory instead of a network.

use std::fs;
use std::io::{BufRead, BufReader, Cursor, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use tempfile::TempDir;

const BACKBONES: [&str; 9] =
    ["resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "vgg11bn", "vgg13bn", "vgg16bn", "vgg19bn"];

fn xtask(root: &Path, arguments: &[&str]) -> (bool, String, String) {
    with_hub(root, arguments, "http://127.0.0.1:1", None)
}

/// With a hub of its own, whose cache is in `root` too, so that nobody's token is found.
fn with_hub(root: &Path, arguments: &[&str], endpoint: &str, token: Option<&str>) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.env("HF_ENDPOINT", endpoint).env("HF_HOME", root.join("hf")).env_remove("HF_TOKEN");
    let Output { status, stdout, stderr } = command
        .envs(token.map(|token| ("HF_TOKEN", token)))
        .args(arguments)
        .arg("--root")
        .arg(root)
        .current_dir(root)
        .output()
        .unwrap();
    (status.success(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A directory with `cifar10.zip` in it, which contains these networks.
fn mirror(backbones: &[&str]) -> TempDir {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for backbone in backbones {
        let name = format!("cifar10/{backbone}_ours.pt");
        writer.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(backbone.as_bytes()).unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("cifar10.zip"), writer.finish().unwrap().into_inner()).unwrap();
    directory
}

#[test]
fn fetch_params_unpacks_all_networks_and_then_keeps_them() {
    let (mirror, root) = (mirror(&BACKBONES), tempfile::tempdir().unwrap());
    let from = mirror.path().to_str().unwrap();
    for (arguments, verb) in [
        (&["fetch-params", "--from", from][..], "fetched"),
        (&["fetch-params", "cifar10", "all", "--from", from], "there already"),
        (&["fetch-params", "cifar10", "--force", "--from", from], "fetched"),
    ] {
        let (success, stdout, stderr) = xtask(root.path(), arguments);
        assert!(success, "{stderr}");
        let mut expected: Vec<_> =
            BACKBONES.iter().map(|name| format!("{verb}: weights/cifar10/{name}_ours.pt")).collect();
        expected.push("next: cargo run -p infer -- cifar10 resnet20".to_owned());
        assert_eq!(stdout.lines().collect::<Vec<_>>(), expected);
        let licences = stderr.lines().filter(|line| line.starts_with("licence: the authors state none"));
        assert_eq!(licences.count(), usize::from(verb == "fetched"), "{stderr}");
    }
    for name in BACKBONES {
        let path = root.path().join(format!("weights/cifar10/{name}_ours.pt"));
        assert_eq!(fs::read_to_string(path).unwrap(), name);
    }
}

#[test]
fn fetch_params_of_one_network_needs_no_other() {
    let (mirror, root) = (mirror(&["vgg11bn"]), tempfile::tempdir().unwrap());
    let from = format!("file://{}", mirror.path().display());
    let (success, stdout, stderr) =
        xtask(root.path(), &["fetch-params", "cifar10", "vgg11bn", "--from", &from]);
    assert!(success, "{stderr}");
    assert_eq!(
        stdout,
        "fetched: weights/cifar10/vgg11bn_ours.pt\nnext: cargo run -p infer -- cifar10 vgg11bn\n"
    );
}

#[test]
fn fetch_data_takes_what_the_mirror_has() {
    let hub = ["plain_text/test/0000.parquet", "plain_text/train/0000.parquet"];
    let toronto = [
        "test_batch.bin",
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
        "batches.meta.txt",
    ];
    let hub100 = ["cifar100/test/0000.parquet", "cifar100/train/0000.parquet"];
    let toronto100 = ["test.bin", "train.bin", "fine_label_names.txt"];
    for (files, arguments, folder, fetched) in [
        (&hub100[..], &["fetch-data", "cifar100"][..], "datasets/cifar100", 2),
        (&toronto100, &["fetch-data", "cifar100"], "datasets/cifar100/cifar-100-binary", 3),
        (&hub, &["fetch-data"], "datasets/cifar10", 2),
        (&hub, &["fetch-data", "cifar10", "--source", "hub"], "datasets/cifar10", 2),
        (&hub[..1], &["fetch-data", "cifar10", "test"], "datasets/cifar10", 1),
        (&toronto, &["fetch-data", "cifar10"], "datasets/cifar10/cifar-10-batches-bin", 7),
        (&toronto, &["fetch-data", "--source=toronto"], "datasets/cifar10/cifar-10-batches-bin", 7),
    ] {
        let (mirror, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for file in files {
            let path = mirror.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        let from = ["--from", mirror.path().to_str().unwrap()];
        let (success, stdout, stderr) = xtask(root.path(), &[arguments, &from].concat());
        assert!(success, "{stderr}");
        let mut expected: Vec<_> =
            files[..fetched].iter().map(|file| format!("fetched: {folder}/{file}")).collect();
        let (dataset, next) = match folder.starts_with("datasets/cifar100") {
            true => ("cifar100", "BACKBONE --params FILE"),
            false => ("cifar10", "resnet20"),
        };
        expected.push(format!("next: cargo run -p infer -- {dataset} {next}"));
        assert_eq!(stdout.lines().collect::<Vec<_>>(), expected);
    }
}

/// Nobody offers weights for LeNet-5.
#[test]
fn after_mnist_comes_training() {
    for dataset in ["mnist", "fashion-mnist"] {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("datasets").join(dataset);
        fs::create_dir_all(&folder).unwrap();
        let files = ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"];
        files.iter().for_each(|file| fs::write(folder.join(file), "").unwrap());
        let (success, stdout, stderr) = xtask(root.path(), &["fetch-data", dataset, "test"]);
        assert!(success, "{stderr}");
        let expected = [
            format!("there already: datasets/{dataset}/{}", files[0]),
            format!("there already: datasets/{dataset}/{}", files[1]),
            format!("next: cargo run -p train -- --dataset {dataset} --params-name mine --preset fast"),
        ];
        assert_eq!(stdout.lines().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn bad_input_fails_and_says_what_would_be_good() {
    let (empty, incomplete) = (tempfile::tempdir().unwrap(), mirror(&["resnet20"]));
    let broken = tempfile::tempdir().unwrap();
    fs::write(broken.path().join("cifar10.zip"), "PK").unwrap();
    let path = |directory: &TempDir| directory.path().to_str().unwrap().to_owned();
    for (arguments, message) in [
        (vec!["fetch-params", "cifar100"], "there is no data set 'cifar100'; known are: cifar10, imagenet\n"),
        (vec!["fetch-params", "resnet20"], "name the data set first (cifar10, imagenet), then 'resnet20'\n"),
        (vec!["fetch-params", "cifar10", "resnet21"], "has no 'resnet21'; known are: resnet20, resnet32,"),
        (
            vec!["fetch-params", "imagenet", "resnet20"],
            "has no 'resnet20'; known are: resnet18, resnet34, resnet50, resnet101, resnet152, vgg11bn, vgg13bn, \
             vgg16bn, vgg19bn, googlenet, inception_v3\n",
        ),
        (
            vec!["fetch-params", "imagenet", "googlenet", "--source", "hub"],
            "'googlenet' of 'imagenet-params' is not in the source 'hub'; it is in: torchvision\n",
        ),
        (
            vec!["fetch-params", "imagenet", "--source", "moon"],
            "has no source 'moon'; known are: torchvision, hub\n",
        ),
        (vec!["fetch-data", "imagenet", "test"], "'imagenet' has no 'test'; known are: validation\n"),
        (
            vec!["fetch-params", "imagenet", "--from", &path(&empty)],
            "does not hold resnet18-5c106cde.pth or resnet18_torchvision.pth\n",
        ),
        (
            vec!["fetch-data", "emnist"],
            "there is no data set 'emnist'; known are: cifar10, cifar100, mnist, fashion-mnist, imagenet\n",
        ),
        (
            vec!["fetch-data", "cifar10-params"],
            "there is no data set 'cifar10-params'; known are: cifar10, cifar100, mnist, fashion-mnist, imagenet\n",
        ),
        (
            vec!["fetch-data", "mnist", "test", "--from", &path(&empty)],
            "does not hold t10k-images-idx3-ubyte.gz\n",
        ),
        (vec!["fetch-params", "mnist"], "there is no data set 'mnist'; known are: cifar10, imagenet\n"),
        (vec!["fetch-data", "cifar10", "validation"], "has no 'validation'; known are: test, train\n"),
        (vec!["fetch-data", "--source", "moon"], "has no source 'moon'; known are: hub, toronto\n"),
        (vec!["fetch-params", "--from", "/no/such/directory"], "there is no such directory"),
        (vec!["fetch-params", "--from", "ftp://example.org"], "'ftp' is none of http, https and file"),
        (vec!["fetch-params", "--from", &path(&empty)], "does not hold cifar10.zip or resnet20_ours.pt\n"),
        (vec!["fetch-params", "--from", &path(&incomplete)], "does not contain resnet32_ours.pt, resnet44"),
        (vec!["fetch-params", "--from", &path(&broken)], "is not a complete zip archive"),
        (
            vec!["fetch-params", "--from", "http://127.0.0.1:1"],
            "http://127.0.0.1:1/cifar10.zip: no connection",
        ),
        (vec!["fetch"], "unrecognized subcommand 'fetch'"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let (success, stdout, stderr) = xtask(root.path(), &arguments);
        assert!(!success && stdout.is_empty(), "{arguments:?}: {stdout}");
        assert!(stderr.contains("error: ") && stderr.contains(message), "{arguments:?}: {stderr}");
        assert!(!root.path().join("weights/cifar10/resnet20_ours.pt").exists());
    }
}

#[test]
fn fetch_params_of_imagenet_takes_each_source_from_a_mirror() {
    let timm = "timm/resnet50.tv_in1k/model.safetensors";
    for (file, source, expected) in [
        (timm, &["--source", "hub"][..], "fetched: weights/imagenet/resnet50_timm.safetensors"),
        ("resnet50_timm.safetensors", &[], "fetched: weights/imagenet/resnet50_timm.safetensors"),
    ] {
        let (mirror, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = mirror.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
        let from = mirror.path().to_str().unwrap();
        let arguments = [&["fetch-params", "imagenet", "resnet50", "--from", from][..], source].concat();
        let (success, stdout, stderr) = xtask(root.path(), &arguments);
        assert!(success, "{stderr}");
        let next = "next: cargo run -p infer -- imagenet resnet50 --params-name timm";
        assert_eq!(stdout, format!("{expected}\n{next}\n"));
    }
}

#[test]
fn weights_that_do_not_have_the_digest_in_their_name_are_refused() {
    let (mirror, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(mirror.path().join("resnet50-19c8e357.pth"), "").unwrap();
    let from = mirror.path().to_str().unwrap();
    let arguments = ["fetch-params", "imagenet", "resnet50", "--source", "torchvision", "--from", from];
    let (success, _, stderr) = xtask(root.path(), &arguments);
    // The SHA-256 of nothing begins with e3b0c442.
    let expected = "resnet50-19c8e357.pth has the wrong SHA-256 prefix: expected 19c8e357, got e3b0c442\n";
    assert!(!success && stderr.ends_with(expected), "{stderr}");
    assert!(
        !root.path().join("weights").exists()
            || fs::read_dir(root.path().join("weights")).unwrap().count() == 0
    );
}

#[test]
fn weights_that_are_there_are_kept_whichever_source_they_are_from() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("weights/imagenet");
    fs::create_dir_all(&folder).unwrap();
    for (file, option) in
        [("resnet50_timm.safetensors", " --params-name timm"), ("resnet50_torchvision.pth", "")]
    {
        fs::write(folder.join(file), "").unwrap();
        let (success, stdout, stderr) = xtask(root.path(), &["fetch-params", "imagenet", "resnet50"]);
        assert!(success && stderr.is_empty(), "{stderr}");
        let next = format!("next: cargo run -p infer -- imagenet resnet50{option}");
        assert_eq!(stdout, format!("there already: weights/imagenet/{file}\n{next}\n"));
    }
}

#[test]
fn without_a_token_imagenet_is_explained_and_nobody_is_asked() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let endpoint = format!("http://{}", server.local_addr().unwrap());
    for arguments in [&["fetch-data", "imagenet"][..], &["fetch-data", "imagenet", "validation"]] {
        let root = tempfile::tempdir().unwrap();
        let (success, stdout, stderr) = with_hub(root.path(), arguments, &endpoint, None);
        assert!(!success && stdout.is_empty(), "{stdout}");
        for part in [
            "licence: for non-commercial research and education only",
            &format!(
                "error: {endpoint}/datasets/ILSVRC/imagenet-1k is open only to accounts that have accepted"
            ),
            &format!("create a token at {endpoint}/settings/tokens and set HF_TOKEN to it"),
            &format!("{} holds none", root.path().join("hf/token").display()),
            "\n  HF_TOKEN=... cargo xtask fetch-data imagenet\n",
            "https://image-net.org/download",
            "\n  cargo run -p infer -- imagenet BACKBONE --dataset-path DIR\n",
            "val/<wnid>/*.JPEG",
            "ILSVRC2012_validation_ground_truth.txt",
            "csv file",
            "parquet",
        ] {
            assert!(stderr.contains(part), "{part}: {stderr}");
        }
        assert_eq!(server.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        assert_eq!(fs::read_dir(root.path().join("datasets")).map_or(0, Iterator::count), 0);
    }
}

#[test]
fn a_hub_that_refuses_the_token_is_explained_without_showing_it() {
    for (status, expected) in [
        (401, "the access token in HF_TOKEN is not valid (HTTP status 401); create another one at"),
        (
            403,
            "the account of the access token in HF_TOKEN has no access (HTTP status 403); accept the terms",
        ),
    ] {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", server.local_addr().unwrap());
        let hub = thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            let shown = lines.by_ref().take_while(|line| !line.is_empty()).collect::<Vec<_>>();
            write!(stream, "HTTP/1.1 {status} -\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").unwrap();
            shown
        });
        let root = tempfile::tempdir().unwrap();
        let arguments = ["fetch-data", "imagenet"];
        let (success, stdout, stderr) = with_hub(root.path(), &arguments, &endpoint, Some("hf_very_secret"));
        assert!(!success && stderr.contains(expected), "{stderr}");
        assert!(stderr.contains("imagenet BACKBONE --dataset-path DIR") && !stderr.contains("HF_TOKEN=..."));
        assert!(!stderr.contains("hf_very_secret") && stdout.is_empty(), "{stderr}");
        let shown = hub.join().unwrap();
        assert!(
            shown[0].starts_with("HEAD /datasets/ILSVRC/imagenet-1k/resolve/main/data/validation-00000-of-")
        );
        let shown =
            shown.iter().any(|line| line.eq_ignore_ascii_case("authorization: Bearer hf_very_secret"));
        assert!(shown);
    }
}

#[test]
fn the_shards_of_a_mirror_need_no_token() {
    let (mirror, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(mirror.path().join("data")).unwrap();
    let shards = (0..14).map(|index| format!("data/validation-{index:05}-of-00014.parquet"));
    let shards: Vec<_> = shards.collect();
    shards.iter().for_each(|shard| fs::write(mirror.path().join(shard), shard).unwrap());
    let from = mirror.path().to_str().unwrap();
    let (success, stdout, stderr) = xtask(root.path(), &["fetch-data", "imagenet", "--from", from]);
    assert!(success, "{stderr}");
    let mut expected: Vec<_> =
        shards.iter().map(|shard| format!("fetched: datasets/imagenet/{shard}")).collect();
    expected.push("next: cargo run -p infer -- imagenet resnet18".to_owned());
    assert_eq!(stdout.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn without_a_connection_the_addresses_for_a_browser_are_told() {
    let timm = |backbone: &str| {
        let path = format!("timm/{backbone}.tv_in1k");
        format!("http://127.0.0.1:1/{path}/resolve/main/model.safetensors\n    as {path}/model.safetensors\n")
    };
    let data = "http://127.0.0.1:1/datasets/ILSVRC/imagenet-1k/resolve/main/data/validation-";
    for (arguments, token, first, last) in [
        (
            &["fetch-params", "imagenet", "resnet50", "--source", "hub"][..],
            None,
            timm("resnet50"),
            timm("resnet50"),
        ),
        // resnet18 is there.
        (&["fetch-params", "imagenet", "--source=hub"], None, timm("resnet34"), timm("inception_v3")),
        (
            &["fetch-data", "imagenet"],
            Some("hf_very_secret"),
            format!("{data}00000-of-00014.parquet\n    as data/validation-00000-of-00014.parquet\n"),
            format!("{data}00013-of-00014.parquet\n    as data/validation-00013-of-00014.parquet\n"),
        ),
    ] {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("weights/imagenet")).unwrap();
        fs::write(root.path().join("weights/imagenet/resnet18_timm.safetensors"), "").unwrap();
        let (success, _, stderr) = with_hub(root.path(), arguments, "http://127.0.0.1:1", token);
        let (_, told) =
            stderr.split_once("To go on without this connection, download by other means\n  ").unwrap();
        assert!(!success && told.starts_with(&first), "{stderr}");
        let end = format!("{last}and repeat the command with --from and the directory that holds it.\n");
        assert!(told.ends_with(&end) && !stderr.contains("hf_very_secret"), "{stderr}");
    }
}

/// `cargo xtask coefficients`, which has no root.
fn coefficients(folder: &Path, arguments: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let Output { status, stdout, stderr } =
        command.arg("coefficients").args(arguments).current_dir(folder).output().unwrap();
    (status.success(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn coefficients_are_written_whole_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--alpha", "7", "--format", "numpy", "--output", "new/seven.py"];
    let check = [&arguments[..], &["--check"]].concat();
    let file = folder.path().join("new/seven.py");
    let (success, _, stderr) = coefficients(folder.path(), &check);
    assert!(!success && stderr.ends_with("error: new/seven.py is stale\n") && !file.exists(), "{stderr}");
    let (success, stdout, stderr) = coefficients(folder.path(), &arguments);
    assert!(
        success && stdout.is_empty() && stderr.contains("ReLU within 2^-7: degrees 7, 7, depth 6"),
        "{stderr}"
    );
    assert!(stderr.contains("= 2^-7.059: certified\n") && stderr.contains("disturbed by 1e-6: certified\n"));
    let (success, _, stderr) = coefficients(folder.path(), &check);
    assert!(success && stderr.ends_with("new/seven.py is current\n"), "{stderr}");
    let (_, stdout, _) = coefficients(folder.path(), &arguments[..4]);
    assert_eq!(stdout, fs::read_to_string(&file).unwrap());
    fs::write(&file, stdout.replacen("0.", "1.", 1)).unwrap();
    assert!(!coefficients(folder.path(), &check).0);
    assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 1);
}

#[test]
fn coefficients_that_make_no_sense_are_refused_with_numbers() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, message) in [
        (&[][..], "say how precise: --alpha BITS, or --precision BITS --epsilon EPSILON"),
        (&["--alpha", "0"], "the precision is 0 bits, but must be from 1 to 26"),
        (&["--alpha", "9-8"], "the range 9-8 is empty"),
        (&["--alpha", "x"], "`x` is not a whole number of bits"),
        (
            &["--alpha", "15", "--published"],
            "alpha is 15, but the published tables cover whole numbers from 4 to 14",
        ),
        (&["--alpha", "10", "--degrees", "7,8"], "degree 8: components have odd degrees from 1 to 63"),
        (&["--alpha", "10", "--degrees", "0"], "degree 0: components"),
        (&["--alpha", "10", "--degrees", "7,7"], "degrees [7, 7] do not reach ReLU within 2^-10"),
        (&["--alpha", "10", "--max-degree", "30"], "the largest degree is 30"),
        (&["--alpha", "10", "--eta", "-1"], "the margin eta is -1e0"),
        (&["--alpha", "10", "--format", "seal"], "there is no format `seal`; known are: json, openfhe"),
        (&["--alpha", "10", "--digits", "5"], "5 is not in 20..=1000"),
        (
            &["--alpha", "10", "--digits", "20"],
            "20 working digits are too few for component 1 with error 8.7e-1:",
        ),
        (&["--precision", "10"], "--epsilon"),
        (&["--precision", "10", "--epsilon", "1.5"], "epsilon is 1.5, but must be at least 1e-9 and below 1"),
        (&["--alpha", "6-7", "--format", "heir"], "the format heir holds one table, not 2"),
        (&["--alpha", "6", "--check"], "--check needs --output"),
        (&["--alpha", "6", "--output", "/proc/no/such.json"], "writing /proc/no/such.json: "),
    ] {
        let (success, stdout, stderr) = coefficients(folder.path(), arguments);
        assert!(!success && stdout.is_empty(), "{arguments:?}: {stdout}");
        assert!(stderr.contains("error: ") && stderr.contains(message), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn the_help_names_all_commands() {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask")).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for line in ["Usage: cargo xtask <COMMAND>", "fetch-params", "fetch-data", "coefficients"] {
        assert!(help.contains(line), "{help}");
    }
}
