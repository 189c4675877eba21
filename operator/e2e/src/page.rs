//! The shell lines of a page of the documentation, as a person would copy them.

use anyhow::{Context, Result};
use std::path::Path;

/// A page in Markdown.
pub(crate) struct Page(String);

impl Page {
    /// Reads a page of the checkout.
    pub(crate) fn read(repository: &Path, path: &str) -> Result<Self> {
        let text = std::fs::read_to_string(repository.join(path));
        text.map(Self).with_context(|| format!("read {path}"))
    }

    /// The blocks of shell lines under a heading, until the next heading of any level.
    pub(crate) fn blocks(&self, heading: &str) -> Vec<String> {
        let all = self.all();
        let under = all.into_iter().filter(|(of, _)| of == heading);
        under.map(|(_, block)| block).collect()
    }

    /// One of those blocks.
    pub(crate) fn block(&self, heading: &str, number: usize) -> Result<String> {
        let block = self.blocks(heading).into_iter().nth(number);
        block
            .with_context(|| format!("under {heading:?} there is no block {number} of shell lines"))
    }

    /// Every block of shell lines with the heading that it is under.
    pub(crate) fn all(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut heading = String::new();
        let mut open: Option<(bool, String)> = None;
        for line in self.0.lines() {
            match (&mut open, line.strip_prefix("```")) {
                (None, Some(kind)) => open = Some((kind == "sh", String::new())),
                (Some((is_shell, text)), Some(_)) => {
                    if *is_shell {
                        found.push((heading.clone(), std::mem::take(text)));
                    }
                    open = None;
                }
                (Some((_, text)), None) => {
                    text.push_str(line);
                    text.push('\n');
                }
                (None, None) => {
                    if let Some((_, title)) =
                        line.split_once("# ").filter(|_| line.starts_with('#'))
                    {
                        title.clone_into(&mut heading);
                    }
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Page\n\n## First\n\n```sh\none # 1\ntwo\n```\n\n```yaml\n# no: shell\n```\n\n### Within\n\n```sh\nthree\n```\n";

    #[test]
    fn blocks_are_found_under_their_heading_and_comments_are_none() {
        let page = Page(PAGE.to_owned());
        assert_eq!(page.blocks("First"), ["one # 1\ntwo\n"]);
        assert_eq!(page.block("Within", 0).unwrap(), "three\n");
        assert!(page.block("Within", 1).is_err());
        assert_eq!(page.all().len(), 2);
    }
}
