//! What the generations of models differ in, known by their names.

/// `gemini-3-pro-preview` is of generation 3. `None` for names without one, as those of tuned models.
fn generation(model: &str) -> Option<u32> {
    let (_, rest) = model.split_once("gemini-")?;
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    rest[..digits].parse().ok()
}

/// Takes `thinkingLevel`, looks at pictures in the results of functions, and refuses calls of functions whose
/// signature is missing (<https://ai.google.dev/gemini-api/docs/gemini-3>). `gemini-flash-latest` and its like
/// are names of the newest.
pub(super) fn since_3(model: &str) -> bool {
    generation(model).map_or_else(|| model.ends_with("-latest"), |generation| generation >= 3)
}

/// Nests pictures in results of functions.
pub(super) fn nests_pictures(model: &str) -> bool {
    generation(model).is_none_or(|generation| generation >= 3)
}

/// Can be held to the schemas of functions without being made to call one (`VALIDATED`).
pub(super) fn validates(model: &str) -> bool {
    !["gemini-1", "gemini-2.0"].iter().any(|old| model.contains(old))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_are_read_off_names() {
        assert!(
            since_3("gemini-3-pro-preview") && since_3("models/gemini-3.1-flash") && since_3("gemini-10")
        );
        assert!(!since_3("gemini-2.5-flash") && !since_3("gemma-3"));
        assert!(since_3("gemini-flash-latest") && !since_3("tunedModels/mine"));
        assert!(nests_pictures("gemini-flash-latest") && !nests_pictures("gemini-2.5-pro"));
        assert!(validates("gemini-2.5-pro") && !validates("gemini-2.0-flash"));
    }
}
