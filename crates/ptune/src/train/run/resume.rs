//! Going on: what an interrupted run has left in its directory, whether this run is the same, and where it stood.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::training::Training;
use crate::adapter::Adapter;
use crate::model::Additions;
use crate::train::config::RunConfig;
use crate::train::state::{Identity, SavedFile, StateFile};
use crate::train::{Event, Summary, Trainer};
use crate::{Error, Result, files};

/// A run file with its verbalizer and defaults is below this.
const LARGEST_RUN_FILE: u64 = 16 << 20;

/// The state file of a run directory.
pub(crate) fn state_file(out: &Path) -> PathBuf {
    out.join("state").join("state.safetensors")
}

/// What the run in the directory `out` came to; none when it is not finished.
///
/// # Errors
/// A damaged state.
pub fn finished(out: &Path) -> Result<Option<Summary>> {
    Ok(StateFile::open(&state_file(out))?.and_then(|file| file.state.finished))
}

/// What is in the run directory before this run.
pub(crate) enum Former<S = Summary> {
    /// No run.
    Nothing,
    /// A run that died before it saved a state; its resolved run file.
    Begun(String),
    /// A run that saved a state.
    Saved(Box<SavedFile<S>>),
}

impl<S: DeserializeOwned> Former<S> {
    /// Looks into `out`, and keeps others out of a run there. Without `resume` there must be none.
    pub(crate) fn find(out: &Path, resume: bool) -> Result<(Self, Option<Lock>)> {
        // What is there of the path must be directories, or creating the rest would fail after all the reading.
        if let Some(file) = out.ancestors().find(|path| path.exists()).filter(|path| !path.is_dir()) {
            return Err(Error::file(file, "is a file; a run needs a directory"));
        }
        let run_file = out.join("run.toml");
        if !run_file.exists() && !out.join("adapter").exists() {
            return Ok((Former::Nothing, None));
        }
        if !resume {
            let message = "holds a run already; go on with it with --resume, give another directory with --out, or \
                           remove this one";
            return Err(Error::file(out, message));
        }
        if !run_file.exists() {
            return Err(Error::file(out, "holds an adapter but no run.toml, so there is no run to go on with"));
        }
        // A run that may yet be refused must find nothing new in its directory.
        let lock = state_file(out).parent().is_some_and(Path::exists).then(|| Lock::take(out)).transpose()?;
        let former = match SavedFile::open(&state_file(out))? {
            Some(file) => Former::Saved(Box::new(file)),
            None => Former::Begun(files::read_text(&run_file, LARGEST_RUN_FILE)?),
        };
        Ok((former, lock))
    }

    /// Refuses to go on as another run than the former one.
    pub(crate) fn check(&self, out: &Path, now: &Identity) -> Result<()> {
        let changes = match self {
            Former::Nothing => Vec::new(),
            Former::Begun(config) => RunConfig::changes(config, now.config()),
            Former::Saved(file) => file.state.identity.changes(now),
        };
        if changes.is_empty() {
            return Ok(());
        }
        let message = format!(
            "this run cannot go on: {}. A run goes on only as it began; undo the change, or begin another run in \
             another directory with --out",
            changes.join("; ")
        );
        Err(Error::file(out, message))
    }

    /// What the former run came to, if it is finished.
    pub(crate) fn finished(&self) -> Option<&S> {
        match self {
            Former::Saved(file) => file.state.finished.as_ref(),
            _ => None,
        }
    }
}

/// Clears away what a killed process has left half written.
pub(crate) fn clear(out: &Path) -> Result<()> {
    [out.to_path_buf(), out.join("state"), out.join("adapter")].iter().try_for_each(|d| files::remove_temporaries(d))
}

/// Keeps a second process out of a run directory. The system lets it go when the process ends, however it ends.
pub(crate) struct Lock {
    _file: Option<File>,
}

impl Lock {
    /// Takes the run directory `out`, and creates it if need be.
    pub(crate) fn take(out: &Path) -> Result<Lock> {
        let path = out.join("state").join("lock");
        files::create_directory(&out.join("state"))?;
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|source| Error::write(&path, source))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                Err(Error::file(out, "another process is at work on this run; wait for it, or stop it"))
            }
            // Some network file systems have no locks; there the user has to take care.
            Err(TryLockError::Error(_)) => Ok(Lock { _file: None }),
            Ok(()) => Ok(Lock { _file: Some(file) }),
        }
    }
}

impl Training<'_> {
    /// Puts the run where the former one stood; does nothing for a new run.
    pub(super) fn go_on(
        &mut self,
        trainer: &mut Trainer<'_>,
        former: Former,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<()> {
        let run = self.run;
        let file = match former {
            Former::Nothing => return Ok(()),
            Former::Begun(_) => {
                run.note("nothing was saved yet: the run begins again", observe);
                return self.progress.write_log(&run.out); // empty: its lines come again
            }
            Former::Saved(file) => file,
        };
        let steps = self.schedule.steps;
        let progress = &file.state.progress;
        if !progress.is_sound(steps) || file.state.optimizer_steps > steps as u64 {
            return Err(file.wrong("its counts are not those of this run"));
        }
        file.read_tensors(self.learner.tensors_mut(&mut trainer.model))?;
        trainer.model.repack(&mut trainer.columns);
        self.learner.additions.iter_mut().for_each(Additions::repack);
        if progress.kept.is_some() {
            Adapter::load(&run.adapter())?; // the kept prompt: found missing now rather than at the end
        }
        run.note(&format!("going on after step {} of {steps}", progress.step), observe);
        self.learner.optimizer.set_steps(file.state.optimizer_steps);
        self.go_to(progress.clone());
        self.progress.write_log(&run.out)
    }
}
