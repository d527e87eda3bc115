//! Which adapters PEFT can express: it concatenates all virtual tokens before the embedded text, and nowhere else.
//!
//! So the template's pseudo tokens must be its first pieces, of a causal model without a start token (in a BERT the
//! `[CLS]` would stand behind the prompt, where no model has seen it). A masked model's `[MASK]` has no task type in PEFT.

use crate::error::{Error, Result};
use crate::model::spec::ModelSpec;
use crate::prompt::template::{PieceKind, Template};

/// The prompt rows in the order of PEFT's virtual tokens: those of the pseudo tokens, which all stand before the text. A
/// row that is shared under a name comes once for each of its places.
///
/// # Errors
/// What PEFT cannot express, with the reason: a masked model, a manual prompt, pseudo tokens behind anything else.
pub fn front_rows(template: &Template, spec: &ModelSpec) -> Result<Vec<usize>> {
    refuse_masked(spec)?;
    if !template.has_pseudo_tokens() {
        let message = "the template has no pseudo tokens: a manual prompt trains nothing that PEFT could load";
        return Err(Error::request(message));
    }
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

/// PEFT's task types have none for an answer at `[MASK]`.
///
/// # Errors
/// A masked model.
pub fn refuse_masked(spec: &ModelSpec) -> Result<()> {
    if spec.causal {
        return Ok(());
    }
    let message = format!(
        "PEFT has no task type for a masked model ({}) that answers at [MASK]; what goes to PEFT and comes from it is for \
         causal models",
        spec.family
    );
    Err(Error::request(message))
}
