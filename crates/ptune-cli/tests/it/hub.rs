//! Models by name are downloaded from a hub, which a thread of the test plays: its answers, its refusals, broken lines.

#![cfg(unix)] // the files of a snapshot are links

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha2::Digest;

use crate::scene::{Said, Scene};

const NAME: &str = "klue/tiny";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the hub has and how it behaves.
#[derive(Default)]
struct Hub {
    files: BTreeMap<String, Vec<u8>>,
    /// The token that opens it.
    token: Option<&'static str>,
    /// Bytes of a body after which the line breaks.
    cut: Option<usize>,
    /// Bytes that are not those of the hash.
    damaged: Option<&'static str>,
    /// Every request: `GET /path range token`.
    seen: Vec<String>,
}

/// A hub at work, and the scene whose model it has.
struct Play {
    scene: Scene,
    hub: Arc<Mutex<Hub>>,
    endpoint: String,
}

impl Play {
    fn new(scene: Scene) -> Play {
        let mut hub = Hub::default();
        for entry in fs::read_dir(scene.path("model")).unwrap() {
            let file = entry.unwrap().path();
            hub.files.insert(file.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&file).unwrap());
        }
        fs::remove_dir_all(scene.path("model")).unwrap();
        for unwanted in ["README.md", "pytorch_model.bin", "onnx/model.onnx"] {
            hub.files.insert(unwanted.into(), b"not for ptune".to_vec());
        }
        scene.edit("run.toml", "\"model\"", &format!("{NAME:?}"));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let hub = Arc::new(Mutex::new(hub));
        let played = Arc::clone(&hub);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let hub = Arc::clone(&played);
                std::thread::spawn(move || answer(stream, &hub, port));
            }
        });
        Play { scene, hub, endpoint: format!("http://127.0.0.1:{port}") }
    }

    fn set(&self, change: impl FnOnce(&mut Hub)) {
        change(&mut self.hub.lock().unwrap());
    }

    /// The requests since this was asked last.
    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.hub.lock().unwrap().seen)
    }

    fn run(&self, arguments: &[&str]) -> Said {
        self.run_with(arguments, &[])
    }

    fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Said {
        let mut command = self.scene.ptune();
        for name in ["HF_HUB_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "XDG_CACHE_HOME"] {
            command.env_remove(name);
        }
        for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(name);
        }
        command.env("HF_HOME", self.scene.path("hf")).env("HF_ENDPOINT", &self.endpoint);
        command.envs(variables.iter().copied());
        self.scene.said(command.args(arguments))
    }

    fn train(&self, out: &str) -> Said {
        self.run(&["train", "run.toml", "--out", out])
    }

    /// A file of the cache.
    fn cached(&self, name: &str) -> std::path::PathBuf {
        self.scene.path("hf/hub/models--klue--tiny").join(name)
    }
}

fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A large file by its SHA-256, a small one by its git hash.
fn hash_of(name: &str, bytes: &[u8]) -> String {
    if name.ends_with(".safetensors") {
        return hexadecimal(&sha2::Sha256::digest(bytes));
    }
    hexadecimal(&sha1::Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize())
}

/// One request and its answer.
fn answer(stream: TcpStream, hub: &Mutex<Hub>, port: u16) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).map(|line| line.to_lowercase()).collect();
    let header = |name: &str| headers.iter().find_map(|line| line.strip_prefix(&format!("{name}: ")));
    let (range, token) = (header("range").unwrap_or("-"), header("authorization").unwrap_or("-"));
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let mut hub = hub.lock().unwrap();
    hub.seen.push(format!("{method} {path} {range} {token}"));
    let elsewhere = path.strip_prefix("/cdn/");
    let allowed = elsewhere.is_some() || hub.token.is_none_or(|known| token == format!("bearer {known}"));
    let resolved = path.strip_prefix(&format!("/{NAME}/resolve/{COMMIT}/")).or(elsewhere);
    let mut reply = Reply { status: "200 OK", headers: Vec::new(), body: Vec::new(), cut: None };
    match resolved.and_then(|name| Some((name, hub.files.get(name)?.clone()))) {
        _ if !allowed => (reply.status, reply.headers) = ("401 Unauthorized", vec!["X-Error-Code: GatedRepo".into()]),
        Some((name, bytes)) if name.ends_with(".safetensors") && elsewhere.is_none() => {
            reply.status = "302 Found";
            let (hash, size) = (hash_of(name, &bytes), bytes.len());
            reply.headers.push(format!("Location: http://localhost:{port}/cdn/{name}"));
            reply.headers.extend([format!("X-Linked-Etag: \"{hash}\""), format!("X-Linked-Size: {size}")]);
        }
        Some((name, mut bytes)) => {
            reply.headers.push(format!("ETag: \"{}\"", hash_of(name, &bytes)));
            if hub.damaged == Some(name) {
                bytes[0] ^= 1;
            }
            let from: Option<usize> =
                range.strip_prefix("bytes=").and_then(|range| range.trim_end_matches('-').parse().ok());
            if let Some(from) = from.filter(|from| *from < bytes.len()) {
                reply.status = "206 Partial Content";
                bytes.drain(..from);
            }
            (reply.body, reply.cut) = (bytes, hub.cut);
        }
        None if path.starts_with(&format!("/api/models/{NAME}/revision/")) => match path.rsplit('/').next() {
            Some("main" | COMMIT) => {
                let files: Vec<Value> = hub.files.keys().map(|name| json!({"rfilename": name})).collect();
                reply.body = json!({"sha": COMMIT, "siblings": files}).to_string().into_bytes();
            }
            _ => (reply.status, reply.headers) = ("404 Not Found", vec!["X-Error-Code: RevisionNotFound".into()]),
        },
        None => (reply.status, reply.headers) = ("404 Not Found", vec!["X-Error-Code: RepoNotFound".into()]),
    }
    drop(hub);
    reply.send(stream, method == "HEAD");
}

struct Reply {
    status: &'static str,
    headers: Vec<String>,
    body: Vec<u8>,
    cut: Option<usize>,
}

impl Reply {
    fn send(self, mut stream: TcpStream, head: bool) {
        let length = self.body.len();
        let mut text = format!("HTTP/1.1 {}\r\nContent-Length: {length}\r\nConnection: close\r\n", self.status);
        self.headers.iter().for_each(|header| text.push_str(&format!("{header}\r\n")));
        let sent = self.cut.map_or(length, |cut| cut.min(length));
        let body = if head { &[] } else { &self.body[..sent] };
        let _ = stream.write_all(&[text.as_bytes(), b"\r\n", body].concat()); // the command may have gone away
    }
}

#[test]
fn a_model_is_downloaded_once_and_only_what_is_needed() {
    let play = Play::new(Scene::new());
    play.train("out").done();
    let seen = play.seen();
    assert!(seen.iter().any(|line| line.starts_with(&format!("GET /{NAME}/resolve/{COMMIT}/config.json"))), "{seen:?}");
    for unwanted in ["README.md", "pytorch_model.bin", "onnx"] {
        assert!(!seen.iter().any(|line| line.contains(unwanted)), "{unwanted} was asked for");
    }
    assert_eq!(fs::read_to_string(play.cached("refs/main")).unwrap(), COMMIT);
    let weights = play.cached(&format!("snapshots/{COMMIT}/model.safetensors"));
    let (link, bytes) = (fs::read_link(&weights).unwrap(), fs::read(&weights).unwrap());
    assert_eq!(link.to_str().unwrap(), format!("../../blobs/{}", hash_of("model.safetensors", &bytes)));
    assert!(bytes == play.hub.lock().unwrap().files["model.safetensors"]);
    // It is there now: nobody is asked, and the run is the same.
    play.train("again").done();
    assert!(play.seen().is_empty());
    assert_eq!(play.scene.read("out/metrics.jsonl"), play.scene.read("again/metrics.jsonl"));
    // An adapter's model that has gone comes back, at its commit.
    fs::remove_dir_all(play.scene.path("hf")).unwrap();
    play.run(&["eval", "out/adapter", "--data", "dev.jsonl"]).done();
    assert!(play.seen()[0].starts_with(&format!("GET /api/models/{NAME}/revision/{COMMIT}")));
    // A file that is lost is replaced, the others stay.
    fs::remove_file(&weights).unwrap();
    play.run(&["eval", "out/adapter", "--data", "dev.jsonl", "--model", NAME]).done();
    assert!(!play.seen().iter().any(|line| line.starts_with("GET /klue")));
}

#[test]
fn shards_come_with_their_index() {
    let play = Play::new(Scene::new());
    play.set(|hub| {
        let weights = hub.files.remove("model.safetensors").unwrap();
        let length = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&weights[8..8 + length]).unwrap();
        let tensors = header.as_object().unwrap().keys().filter(|name| *name != "__metadata__");
        let map: serde_json::Map<String, Value> =
            tensors.map(|name| (name.clone(), json!("one.safetensors"))).collect();
        let index = json!({"weight_map": map}).to_string();
        hub.files.insert("one.safetensors".into(), weights);
        hub.files.insert("model.safetensors.index.json".into(), index.into_bytes());
    });
    play.train("out").done();
}

#[test]
fn a_download_goes_on_where_the_line_broke() {
    let play = Play::new(Scene::new());
    let size = play.hub.lock().unwrap().files["model.safetensors"].len();
    play.set(|hub| hub.cut = Some(size / 3 + 1));
    play.train("out").done();
    let parts: Vec<String> = play.seen().into_iter().filter(|line| line.contains("GET /cdn/")).collect();
    assert!(parts.len() == 3 && parts[1].contains(&format!("bytes={}-", size / 3 + 1)), "{parts:?}");
    // What an earlier process left is not fetched again.
    let weights = play.hub.lock().unwrap().files["model.safetensors"].clone();
    let blob = play.cached("blobs").join(hash_of("model.safetensors", &weights));
    fs::remove_file(&blob).unwrap();
    fs::write(blob.with_extension("incomplete"), &weights[..size - 5]).unwrap();
    play.set(|hub| hub.cut = None);
    play.train("again").done();
    let parts: Vec<String> = play.seen().into_iter().filter(|line| line.contains("GET /cdn/")).collect();
    assert!(parts.len() == 1 && parts[0].contains(&format!("bytes={}-", size - 5)), "{parts:?}");
}

#[test]
fn a_dead_line_ends_the_work_and_leaves_no_model() {
    let play = Play::new(Scene::new());
    play.set(|hub| hub.cut = Some(0));
    let said = play.train("out");
    assert_eq!(said.status, Some(1), "{}", said.err);
    assert!(said.err.contains("broke again and again"), "{}", said.err);
    assert!(!play.cached("refs").exists() && !play.cached("snapshots").exists() && !play.scene.path("out").exists());
    play.set(|hub| hub.cut = None);
    play.train("out").done();
}

#[test]
fn bytes_of_another_hash_are_thrown_away() {
    for (name, damaged) in [("model.safetensors", "model.safetensors"), ("config.json", "config.json")] {
        let play = Play::new(Scene::new());
        play.set(|hub| hub.damaged = Some(damaged));
        let said = play.train("out");
        assert_eq!(said.status, Some(1), "{}", said.err);
        assert!(said.err.contains(name) && said.err.contains("does not have the hash"), "{}", said.err);
        assert!(!play.cached("refs").exists() && !play.scene.path("out").exists());
        let left = fs::read_dir(play.cached("blobs")).unwrap().flatten();
        assert!(!left.into_iter().any(|entry| entry.path().extension().is_some()), "an .incomplete file is left");
        play.set(|hub| hub.damaged = None);
        play.train("out").done();
    }
}

#[test]
fn what_the_hub_refuses_is_told_and_nothing_is_written() {
    let play = Play::new(Scene::new());
    let refused = |arguments: &[&str], variables: &[(&str, &str)], says: &[&str]| {
        let said = play.run_with(arguments, variables);
        assert_eq!(said.status, Some(2), "{}", said.err);
        says.iter().for_each(|words| assert!(said.err.contains(words), "'{words}' is not in:\n{}", said.err));
        assert!(!play.scene.path("hf").exists() && !play.scene.path("out").exists());
    };
    let train = ["train", "run.toml", "--out", "out"];
    let other = |model: &'static str| [&train[..], &["--set", model]].concat();
    refused(&other("model=klue/no-such"), &[], &["no such directory", "no such model either", "HF_TOKEN"]);
    refused(&other("model=klue/tiny@v2"), &[], &["not that revision"]);
    refused(&train, &[("HF_ENDPOINT", "http://127.0.0.1:9")], &["no such directory", "nor can the hub be asked"]);
    play.seen();
    refused(&train, &[("HF_HUB_OFFLINE", "1")], &["no such directory", "HF_HUB_OFFLINE"]);
    assert!(play.seen().is_empty());
    play.set(|hub| hub.files.remove("model.safetensors").map_or((), drop));
    refused(&train, &[], &["pickled weights can run code"]);
}

#[test]
fn a_gated_model_wants_a_token_which_goes_to_no_other_host() {
    let play = Play::new(Scene::new());
    play.set(|hub| hub.token = Some("secret"));
    let train = ["train", "run.toml", "--out", "out"];
    for variables in [&[][..], &[("HF_TOKEN", "wrong")]] {
        let said = play.run_with(&train, variables);
        assert_eq!(said.status, Some(2));
        assert!(said.err.contains("gated") && said.err.contains("HF_TOKEN"), "{}", said.err);
        assert!(!said.err.contains("wrong "), "a token is shown: {}", said.err);
    }
    play.run_with(&train, &[("HF_TOKEN", "secret")]).done();
    let seen = play.seen();
    let elsewhere: Vec<_> = seen.iter().filter(|line| line.contains("/cdn/")).collect();
    assert!(!elsewhere.is_empty() && elsewhere.iter().all(|line| line.ends_with(" -")), "{elsewhere:?}");
}
