//! A hub for the tests: a thread that answers as the hub does, with its refusals, broken and silent lines.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assert_cmd::Command;
use serde_json::{Value, json};
use sha2::Digest;

use crate::scene::{Said, Scene};

pub(super) const NAME: &str = "klue/tiny";
pub(super) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the hub has and how it behaves.
#[derive(Default)]
pub(super) struct Hub {
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// The token that opens it.
    pub(super) token: Option<&'static str>,
    /// Bytes of a body after which the line breaks.
    pub(super) cut: Option<usize>,
    /// Bytes that are not those of the hash.
    pub(super) damaged: Option<&'static str>,
    /// Bytes of a body after which nothing comes, and the line stays open.
    pub(super) stall: Option<usize>,
    /// So many requests are refused because there are too many.
    pub(super) busy: usize,
    /// So many requests for the bytes of a large file are forbidden at the place that the hub names.
    pub(super) forbidden: usize,
    /// It knows no file and sends everybody to the same hub under another name.
    pub(super) mirror: bool,
    /// Every request: `GET /path range token`.
    seen: Vec<String>,
}

/// A hub at work, and the scene whose model it has.
pub(super) struct Play {
    pub(super) scene: Scene,
    pub(super) hub: Arc<Mutex<Hub>>,
    endpoint: String,
}

impl Play {
    pub(super) fn new(scene: Scene) -> Play {
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

    pub(super) fn set(&self, change: impl FnOnce(&mut Hub)) {
        change(&mut self.hub.lock().unwrap());
    }

    /// The requests since this was asked last.
    pub(super) fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.hub.lock().unwrap().seen)
    }

    pub(super) fn run(&self, arguments: &[&str]) -> Said {
        self.run_with(arguments, &[])
    }

    pub(super) fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Said {
        let mut command = self.scene.ptune();
        self.scene.said(self.at_home(&mut command).envs(variables.iter().copied()).args(arguments))
    }

    /// A command in an environment of its own.
    pub(super) fn at_home<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        for name in
            ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"]
        {
            command.env_remove(name);
        }
        for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HUB_DISABLE_IMPLICIT_TOKEN"] {
            command.env_remove(name);
        }
        for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(name);
        }
        command.env("HF_HOME", self.scene.path("hf")).env("HF_ENDPOINT", &self.endpoint)
    }

    pub(super) fn train(&self, out: &str) -> Said {
        self.run(&["train", "run.toml", "--out", out])
    }

    /// A file of the cache.
    pub(super) fn cached(&self, name: &str) -> std::path::PathBuf {
        self.scene.path("hf/hub/models--klue--tiny").join(name)
    }
}

fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A large file by its SHA-256, a small one by its git hash.
pub(super) fn hash_of(name: &str, bytes: &[u8]) -> String {
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
    let (host, mirror) = (header("host").unwrap_or_default(), hub.mirror);
    let allowed = elsewhere.is_some() || hub.token.is_none_or(|known| token == format!("bearer {known}"));
    let resolved = path.strip_prefix(&format!("/{NAME}/resolve/{COMMIT}/")).or(elsewhere);
    let mut reply = Reply { status: "200 OK", headers: Vec::new(), body: Vec::new(), cut: None, stall: None };
    match resolved.and_then(|name| Some((name, hub.files.get(name)?.clone()))) {
        _ if hub.busy > 0 => {
            hub.busy -= 1;
            (reply.status, reply.headers) = ("429 Too Many Requests", vec!["Retry-After: 0".into()]);
        }
        _ if mirror && host.starts_with("127.") => {
            (reply.status, reply.headers) =
                ("308 Permanent Redirect", vec![format!("Location: http://localhost:{port}{path}")]);
        }
        _ if elsewhere.is_some() && hub.forbidden > 0 => {
            hub.forbidden -= 1;
            reply.status = "403 Forbidden";
        }
        _ if !allowed && token == "bearer expired" => {
            reply.status = "401 Unauthorized";
            reply.headers = vec!["X-Error-Message: Invalid credentials in Authorization header".into()];
        }
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
            (reply.body, reply.cut, reply.stall) = (bytes, hub.cut, hub.stall);
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
    stall: Option<usize>,
}

impl Reply {
    fn send(self, mut stream: TcpStream, head: bool) {
        let length = self.body.len();
        let mut text = format!("HTTP/1.1 {}\r\nContent-Length: {length}\r\nConnection: close\r\n", self.status);
        self.headers.iter().for_each(|header| text.push_str(&format!("{header}\r\n")));
        let sent = self.cut.or(self.stall).map_or(length, |cut| cut.min(length));
        let body = if head { &[] } else { &self.body[..sent] };
        let _ = stream.write_all(&[text.as_bytes(), b"\r\n", body].concat()); // the command may have gone away
        if self.stall.is_some() && sent < length && !head {
            std::thread::sleep(Duration::from_secs(60));
        }
    }
}
