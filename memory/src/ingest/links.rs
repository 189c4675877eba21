//! Links: which document and anchor an address means.
//!
//! Knows no passages: `places.rs` does. Pure.

/// The key and anchor that `address` means when it stands in the document of the key `from`, which
/// was found below the folder `root`. `None` for other sites.
///
/// An address may lead out of the folder: what it means may have been ingested on its own.
pub(super) fn resolve(root: &str, from: &str, address: &str) -> Option<(String, Option<String>)> {
    let (path, anchor) = match address.split_once('#') {
        Some((path, anchor)) => (
            path,
            Some(percent_decoded(anchor)).filter(|a| !a.is_empty()),
        ),
        None => (address, None),
    };
    let path = path.split('?').next().unwrap_or_default();
    let has_scheme = path
        .split('/')
        .next()
        .is_some_and(|first| first.contains(':'));
    if has_scheme || path.starts_with("//") {
        return None;
    }
    if path.is_empty() {
        return Some((from.to_owned(), anchor));
    }
    let folder = match path.starts_with('/') {
        true => root,
        false => from.rsplit_once('/').map_or("", |(folder, _)| folder),
    };
    let mut parts: Vec<String> = folder
        .split('/')
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(percent_decoded(name)),
        }
    }
    Some((format!("/{}", parts.join("/")), anchor))
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let digits = tail
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let decoded = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match decoded.filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => bytes.push(*first),
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(address: &str) -> Option<(String, Option<String>)> {
        resolve("/docs", "/docs/library/functools.html", address)
    }

    #[test]
    fn addresses_are_relative_to_their_document() {
        let page = |path: &str| Some((path.to_owned(), None));
        assert_eq!(
            resolved("operator.html"),
            page("/docs/library/operator.html")
        );
        assert_eq!(
            resolved("../faq/./general.html?x=1"),
            page("/docs/faq/general.html")
        );
        assert_eq!(resolved("/index.html"), page("/docs/index.html"));
        assert_eq!(resolved("../../notes.md"), page("/notes.md"));
        let here = "/docs/library/functools.html".to_owned();
        assert_eq!(resolved("#a%20b"), Some((here, Some("a b".to_owned()))));
    }

    #[test]
    fn other_sites_and_paths_above_everything_are_not_resolved() {
        for address in [
            "https://example.org/x",
            "mailto:a@example.org",
            "//cdn/x",
            "../../../x",
        ] {
            assert_eq!(resolved(address), None, "{address}");
        }
    }
}
