//! One file of the hub: goes on where an earlier download stopped, and is compared with its hash before it has its name.
//!
//! The hub names a large file by the SHA-256 of its bytes, a small one by its git hash (SHA-1 of `blob SIZE\0` and the
//! bytes). The bytes grow in `blobs/HASH.incomplete`, as with the hub's Python library, and are renamed when they are
//! whole, right and synced. Processes take turns (`turn.rs`).

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use ptune::{Error, files};
use sha2::Digest;
use ureq::http::StatusCode;

use super::client::Client;
use super::refusal::{Refused, why_broken};
use super::size_of;
use super::turn::Turn;

/// Connections tried in a row without a new byte.
const ATTEMPTS: usize = 4;
const PAUSE: Duration = Duration::from_millis(500);
const PIECE: usize = 256 << 10;
/// Larger files than any checkpoint's: a size that cannot be right.
const LARGEST: u64 = 1 << 42;

/// What people are told while a file comes.
pub(super) enum Told<'a> {
    /// So many of its bytes are there.
    Bytes(u64),
    /// Another process has the turn at it.
    Waiting(&'a str),
}

/// A file as the hub describes it.
pub(super) struct Blob {
    pub(super) name: String,
    pub(super) hash: String,
    pub(super) size: u64,
    path: String,
}

impl Blob {
    /// Asks for size and hash.
    pub(super) fn head(client: &Client, model: &str, commit: &str, name: &str) -> Result<Blob, Refused> {
        let path = format!("/{model}/resolve/{commit}/{name}");
        let answer = client.head(&path)?;
        let said = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let tag = said("x-linked-etag").or_else(|| said("etag")).unwrap_or_default();
        let hash = tag.trim_start_matches("W/").trim_matches('"').to_owned();
        // The length of a redirect is that of its own body.
        let length = said("content-length").filter(|_| answer.status().is_success());
        let size = said("x-linked-size").or(length).and_then(|size| size.parse().ok());
        let known = [40, 64].contains(&hash.len()) && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        match size {
            Some(size) if known && size <= LARGEST => Ok(Blob { name: name.to_owned(), hash, size, path }),
            _ => Err(Refused::Failed(format!(
                "{path}: the hub gives no size and hash of it, so it could not be checked"
            ))),
        }
    }

    /// Brings the file into the blobs of a model's folder, unless it is there.
    pub(super) fn fetch(&self, client: &Client, folder: &Path, tell: &mut dyn FnMut(Told<'_>)) -> Result<(), Refused> {
        let blobs = folder.join("blobs");
        let whole = blobs.join(&self.hash);
        let is_there = || whole.is_file() && size_of(&whole) == self.size;
        if is_there() {
            return Ok(());
        }
        files::create_directory(&blobs)?;
        let _turn = Turn::wait(folder, &self.hash, &mut || tell(Told::Waiting(&self.name)))?;
        if is_there() {
            return Ok(()); // another process brought it meanwhile
        }
        let growing = blobs.join(format!("{}.incomplete", self.hash));
        let failed = |source| Refused::File(Error::write(&growing, source));
        let open = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&growing);
        let mut file = open.map_err(failed)?;
        self.receive_all(client, &mut file, tell, &failed)?;
        if !self.is_right(&mut file).map_err(failed)? {
            drop(file);
            files::remove_if_present(&growing)?;
            let message = "what came does not have the hash that the hub gives; it was thrown away, try again";
            return Err(Refused::Failed(format!("{}: {message}", self.path)));
        }
        file.sync_all().map_err(failed)?;
        Ok(files::rename(&growing, &whole)?)
    }

    /// Connections one after another until all bytes are there, or a few in a row brought none.
    fn receive_all(
        &self,
        client: &Client,
        file: &mut File,
        tell: &mut dyn FnMut(Told<'_>),
        failed: &dyn Fn(std::io::Error) -> Refused,
    ) -> Result<(), Refused> {
        let (mut have, mut idle) = (file.metadata().map_err(failed)?.len(), 0);
        if have > self.size {
            file.set_len(0).map_err(failed)?;
            have = 0;
        }
        while have < self.size {
            let (now, stopped) = self.receive(client, file, have, tell, failed)?;
            idle = if now > have { 0 } else { idle + 1 };
            have = now;
            if let Some(why) = stopped.filter(|_| idle >= ATTEMPTS) {
                let (at, size) = (have as f64 / 1e6, self.size as f64 / 1e6);
                let message = format!(
                    "the connection broke again and again, with {at:.1} of {size:.1} MB there; the same command goes on \
                     from there later"
                );
                return Err(Refused::Failed(format!("{}: {message}: {why}", self.path)));
            }
            if have < self.size {
                std::thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    /// Appends what one connection gives; how many bytes are there then, and why it ended early. Only a refusal and a full
    /// disk are errors.
    fn receive(
        &self,
        client: &Client,
        file: &mut File,
        have: u64,
        tell: &mut dyn FnMut(Told<'_>),
        failed: &dyn Fn(std::io::Error) -> Refused,
    ) -> Result<(u64, Option<String>), Refused> {
        let answer = match client.get(&self.path, have) {
            Ok(answer) => answer,
            Err(Refused::Failed(why)) => return Ok((have, Some(why))),
            Err(refused) => return Err(refused),
        };
        // Without ranges the whole file comes again.
        let mut at = if answer.status() == StatusCode::PARTIAL_CONTENT { have } else { 0 };
        file.set_len(at).map_err(failed)?;
        file.seek(SeekFrom::Start(at)).map_err(failed)?;
        // One byte more than there should be is seen, and no disk filled.
        let mut body = answer.into_body().into_reader().take(self.size - at + 1);
        let mut piece = vec![0; PIECE];
        loop {
            match body.read(&mut piece) {
                Ok(0) if at < self.size => return Ok((at, Some("it ended early".into()))),
                Ok(0) => return Ok((at, None)),
                Ok(read) => {
                    file.write_all(&piece[..read]).map_err(failed)?;
                    at += read as u64;
                    tell(Told::Bytes(at.min(self.size)));
                }
                Err(wrong) if wrong.kind() == std::io::ErrorKind::Interrupted => {}
                Err(wrong) => return Ok((at, Some(why_broken(&wrong, client.idle)))),
            }
        }
    }

    /// Whether the bytes are those of the hash, and no more.
    fn is_right(&self, file: &mut File) -> std::io::Result<bool> {
        if file.metadata()?.len() != self.size {
            return Ok(false);
        }
        file.seek(SeekFrom::Start(0))?;
        let found = if self.hash.len() == 64 {
            digest(sha2::Sha256::new(), file)?
        } else {
            digest(sha1::Sha1::new_with_prefix(format!("blob {}\0", self.size)), file)?
        };
        Ok(found.eq_ignore_ascii_case(&self.hash))
    }
}

/// A file's hash in hexadecimal, behind what `hash` has seen.
fn digest<D: Digest>(mut hash: D, file: &mut File) -> std::io::Result<String> {
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            Ok(read) => hash.update(&piece[..read]),
            Err(wrong) if wrong.kind() == std::io::ErrorKind::Interrupted => {}
            Err(wrong) => return Err(wrong),
        }
    }
}
