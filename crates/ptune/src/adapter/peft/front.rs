//! Which adapters PEFT can express: it concatenates all virtual tokens before the embedded text, and nowhere else.
//!
//! So the template's pseudo tokens must be its first pieces, of a causal model without a start token (in a BERT the
//! `[CLS]` would stand behind the prompt, where no model has seen it, and a classifier would read a virtual token). A masked
//! model's `[MASK]` has no task type in PEFT.

use crate::error::{Error, Result};
use crate::model::spec::ModelSpec;
use crate::prompt::template::{PieceKind, Template};

/// The prompt rows in the order of PEFT's virtual tokens: those of the pseudo tokens, which all stand before the text. A
/// row that is shared under a name comes once for each of its places.
///
/// # Errors
/// What PEFT cannot express, with the reason: a masked model, a manual prompt, pseudo tokens behind anything else.
pub fn front_rows(template: &Template, spec: &ModelSpec) -> Result<Vec<usize>> {
    let has_mask = template.pieces().iter().any(|piece| piece.kind == PieceKind::Mask);
    if !template.has_pseudo_tokens() {
        return Err(Error::request(if has_mask {
            "the template has no pseudo tokens: a manual prompt trains nothing that PEFT could load"
        } else {
            "only its classifier was trained, and PEFT has no adapter of that alone; with LoRA, a prefix or a prompt it goes along"
        }));
    }
    refuse_masked(spec, has_mask)?;
    let mut rows = Vec::new();
    let mut behind = false;
    for piece in template.pieces() {
        match &piece.kind {
            PieceKind::Pseudo(_) if behind => {
                let message = "PEFT puts all virtual tokens before the text; these pseudo tokens stand inside it, so this \
                               adapter has no PEFT form";
                return Err(template.error(piece, message));
            }
            PieceKind::Pseudo(pseudo) => rows.extend(pseudo.first_row..pseudo.first_row + pseudo.count),
            _ => behind = true,
        }
    }
    Ok(rows)
}

/// PEFT's task types have none for an answer at `[MASK]`, and with that of a classifier the prompt stands elsewhere.
///
/// # Errors
/// A masked model.
fn refuse_masked(spec: &ModelSpec, has_mask: bool) -> Result<()> {
    if spec.causal {
        return Ok(());
    }
    if !has_mask {
        let message = format!(
            "PEFT puts a prompt before [CLS], and the classifier of a masked model ({}) reads the first virtual token there; \
             here the prompt stands behind [CLS], which the classifier reads",
            spec.family
        );
        return Err(Error::request(message));
    }
    Err(no_task_type(spec))
}

/// Refuses a prefix where PEFT has none: of a masked model that answers at `[MASK]`, and of one whose class in transformers
/// takes no keys and values.
///
/// # Errors
/// As described, with the reason.
pub fn refuse_prefix(spec: &ModelSpec, classifier: bool) -> Result<()> {
    match (spec.causal, classifier) {
        (true, _) => Ok(()),
        (false, false) => Err(no_task_type(spec)),
        (false, true) if spec.classifier.takes_past => Ok(()),
        (false, true) => {
            let message = format!(
                "PEFT cannot run a prefix here: the classifier of this family ({}) takes no keys and values in transformers",
                spec.family
            );
            Err(Error::request(message))
        }
    }
}

fn no_task_type(spec: &ModelSpec) -> Error {
    let message = format!(
        "PEFT has no task type for a masked model ({}) that answers at [MASK]; of masked models only LoRA and classifiers \
         go to PEFT and come from it",
        spec.family
    );
    Error::request(message)
}
