//! PDF: the text of each page, in the order of the file's page tree.
//!
//! Finds objects by looking for them and not by the file's table, which is often broken and always redundant. Unpacked
//! bytes, nesting and pages are bounded, so that no file can take more than its share of memory and time. Decides nothing about
//! paragraphs: `split_pdf.rs` does. Reading on: `pdf/objects.rs`, `pdf/text.rs`, `pdf/fonts.rs`.

mod fonts;
mod objects;
mod text;

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

use self::objects::{Dict, Lexer, Object};

/// Bytes that one file may unpack to, in all.
const UNPACKED_BYTES_MAX: usize = 128 << 20;

/// Bytes that one stream may unpack to.
const STREAM_BYTES_MAX: usize = 32 << 20;

/// Bytes that the smallest stream counts for, since many of them take time too.
const STREAM_COST_MIN: usize = 256;

/// Pages read of one file.
const PAGES_MAX: usize = 20_000;

/// Levels of the page tree, and references that lead to references.
const DEPTH_MAX: usize = 48;

/// Why a file has no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PdfError {
    /// Something else.
    #[error("not a PDF file, whatever its name says")]
    NoPdf,
    /// Locked.
    #[error("an encrypted PDF: save it without a password")]
    Encrypted,
    /// Nothing that could be read.
    #[error("a broken PDF: no page was found in it")]
    NoPages,
    /// Pictures of text.
    #[error("a PDF without text, such as a scan: run text recognition (OCR) over it")]
    NoText,
    /// More than is read.
    #[error("a PDF that unpacks to more than {} MiB", UNPACKED_BYTES_MAX >> 20)]
    TooLarge,
}

/// What a file says.
#[derive(Debug, PartialEq)]
pub(super) struct Pdf {
    /// The title that its maker gave it.
    pub(super) title: Option<String>,
    /// The text of each page: a line a line, with an empty one where the gap is wider.
    pub(super) pages: Vec<String>,
}

/// Reads a file.
pub(super) fn read(bytes: &[u8]) -> Result<Pdf, PdfError> {
    if !bytes[..bytes.len().min(1024)]
        .windows(5)
        .any(|head| head == b"%PDF-")
    {
        return Err(PdfError::NoPdf);
    }
    let file = File::read(bytes)?;
    let pages = file.pages();
    if pages.is_empty() {
        return Err(PdfError::NoPages);
    }
    let mut texts = Vec::with_capacity(pages.len());
    let mut fonts = fonts::Fonts::default();
    for page in &pages {
        texts.push(text::of_page(&file, page, &mut fonts));
        if file.is_spent() {
            return Err(PdfError::TooLarge);
        }
    }
    match texts.iter().all(|text| text.trim().is_empty()) {
        true => Err(PdfError::NoText),
        false => Ok(Pdf {
            title: file.title(),
            pages: texts,
        }),
    }
}

/// The objects of a file by number.
struct File<'b> {
    bytes: &'b [u8],
    objects: HashMap<u32, Entry>,
    root: Option<Object>,
    info: Option<Object>,
    /// Bytes that may still be unpacked.
    left: Cell<usize>,
}

/// An object, and where its stream lies when it has one.
struct Entry {
    value: Object,
    stream: Option<Range<usize>>,
}

/// A page with what it takes over from those above it.
struct Page<'f> {
    dict: &'f Dict,
    resources: Option<&'f Dict>,
}

impl<'b> File<'b> {
    fn read(bytes: &'b [u8]) -> Result<Self, PdfError> {
        let mut file = Self {
            bytes,
            objects: HashMap::new(),
            root: None,
            info: None,
            left: Cell::new(UNPACKED_BYTES_MAX),
        };
        let mut at = 0;
        while let Some(word) = next_word(bytes, at) {
            at = match word {
                Found::Object { number, start } => file.object(number, start)?,
                Found::Trailer { start } => {
                    let mut lexer = Lexer::new(bytes, start);
                    if let Some(Object::Dict(trailer)) = lexer.next() {
                        file.trailer(&trailer)?;
                    }
                    lexer.at().max(start)
                }
            };
            if file.is_spent() {
                return Err(PdfError::TooLarge);
            }
        }
        Ok(file)
    }

    /// Reads the object whose value begins at the byte `start`; where to go on. A later one of the same number counts.
    fn object(&mut self, number: u32, start: usize) -> Result<usize, PdfError> {
        let mut lexer = Lexer::new(self.bytes, start);
        let Some(value) = lexer.next() else {
            return Ok(self.bytes.len());
        };
        let mut end = lexer.at();
        let mut stream = None;
        if let Object::Dict(dict) = &value
            && let Some(after) = word_at(self.bytes, end, b"stream")
        {
            let data = self.stream_range(dict, after);
            end = data.end;
            stream = Some(data);
        }
        if let (Object::Dict(dict), Some(data)) = (&value, &stream) {
            match dict.get("Type").and_then(Object::name) {
                Some("XRef") => self.trailer(dict)?,
                Some("ObjStm") => self.packed(dict, data.clone()),
                _ => {}
            }
        }
        self.objects.insert(number, Entry { value, stream });
        Ok(end.max(start))
    }

    /// The bytes of a stream: as many as it says when it ends there, else up to the word that ends it.
    fn stream_range(&self, dict: &Dict, after_word: usize) -> Range<usize> {
        let mut start = after_word;
        if self.bytes.get(start) == Some(&b'\r') {
            start += 1;
        }
        if self.bytes.get(start) == Some(&b'\n') {
            start += 1;
        }
        let start = start.min(self.bytes.len());
        let said = dict.get("Length").and_then(Object::number).unwrap_or(-1.0);
        if said >= 0.0 {
            let end = start.saturating_add(said as usize);
            if word_at(self.bytes, end, b"endstream").is_some() {
                return start..end;
            }
        }
        let end = find(self.bytes, b"endstream", start).unwrap_or(self.bytes.len());
        start..end
    }

    fn trailer(&mut self, trailer: &Dict) -> Result<(), PdfError> {
        if trailer.contains_key("Encrypt") {
            return Err(PdfError::Encrypted);
        }
        if let Some(root) = trailer.get("Root") {
            self.root = Some(root.clone());
        }
        if let Some(info) = trailer.get("Info") {
            self.info = Some(info.clone());
        }
        Ok(())
    }

    /// Objects that are packed into a stream.
    fn packed(&mut self, dict: &Dict, data: Range<usize>) {
        let count = |name: &str| dict.get(name).and_then(Object::number).unwrap_or(0.0) as usize;
        let Some(unpacked) = self.unpack(dict, data) else {
            return;
        };
        let mut heads = Lexer::new(&unpacked, 0);
        let mut places = Vec::new();
        while places.len() < count("N") && heads.at() < count("First") {
            let (Some(Object::Number(number)), Some(Object::Number(place))) =
                (heads.next(), heads.next())
            else {
                break;
            };
            places.push((number as u32, count("First").saturating_add(place as usize)));
        }
        for (number, place) in places {
            if let Some(value) = Lexer::new(&unpacked, place).next() {
                let stream = None;
                self.objects.insert(number, Entry { value, stream });
            }
        }
    }

    /// Whether more was to be unpacked than is allowed.
    fn is_spent(&self) -> bool {
        self.left.get() == 0
    }

    /// What an object is, through references.
    fn resolve<'f>(&'f self, object: &'f Object) -> Option<&'f Object> {
        let mut object = object;
        for _ in 0..DEPTH_MAX {
            match object {
                Object::Reference(number) => object = &self.objects.get(number)?.value,
                value => return Some(value),
            }
        }
        None
    }

    /// An entry of a dictionary, through references.
    fn get<'f>(&'f self, dict: &'f Dict, name: &str) -> Option<&'f Object> {
        self.resolve(dict.get(name)?)
    }

    /// An entry of a dictionary that is one itself.
    fn dict<'f>(&'f self, dict: &'f Dict, name: &str) -> Option<&'f Dict> {
        self.get(dict, name)?.dict()
    }

    /// The dictionary and the unpacked bytes of a stream.
    fn stream(&self, object: &Object) -> Option<(&Dict, Vec<u8>)> {
        let Object::Reference(first) = object else {
            return None;
        };
        let mut number = first;
        for _ in 0..DEPTH_MAX {
            let entry = self.objects.get(number)?;
            match (&entry.value, &entry.stream) {
                (Object::Reference(next), _) => number = next,
                (Object::Dict(dict), Some(data)) => {
                    return Some((dict, self.unpack(dict, data.clone())?));
                }
                _ => return None,
            }
        }
        None
    }

    /// A stream as it was before it was packed; `None` for ways of packing that text is not packed in.
    fn unpack(&self, dict: &Dict, data: Range<usize>) -> Option<Vec<u8>> {
        if self.is_spent() {
            return None;
        }
        let mut bytes = self.bytes.get(data)?.to_vec();
        let filters = match self.get(dict, "Filter") {
            Some(Object::Name(name)) => vec![name.clone()],
            Some(Object::Array(names)) => (names.iter())
                .filter_map(|name| Some(self.resolve(name)?.name()?.to_owned()))
                .collect(),
            _ => Vec::new(),
        };
        for filter in filters {
            let room = STREAM_BYTES_MAX.min(self.left.get());
            bytes = match filter.as_str() {
                "FlateDecode" | "Fl" => inflated(&bytes, room),
                "ASCIIHexDecode" | "AHx" => Lexer::new(&[b"<", bytes.as_slice()].concat(), 0)
                    .next()
                    .and_then(|text| match text {
                        Object::Text(text) => Some(text),
                        _ => None,
                    })?,
                "ASCII85Decode" | "A85" => ascii85(&bytes),
                _ => return None,
            };
        }
        let cost = bytes.len().max(STREAM_COST_MIN);
        self.left.set(self.left.get().saturating_sub(cost));
        Some(bytes)
    }

    fn title(&self) -> Option<String> {
        let info = self.resolve(self.info.as_ref()?)?.dict()?;
        let Object::Text(bytes) = self.get(info, "Title")? else {
            return None;
        };
        let title = match bytes.strip_prefix(&[0xfe, 0xff]) {
            Some(wide) => fonts::utf16(wide),
            None => bytes
                .iter()
                .map(|byte| fonts::WIN_ANSI.char(*byte))
                .collect(),
        };
        Some(title.trim().to_owned()).filter(|title| !title.is_empty())
    }

    /// The pages in the order of the page tree; when there is no tree, in that of their numbers.
    fn pages(&self) -> Vec<Page<'_>> {
        let is = |value: &Object, name: &str| {
            let kind = value.dict().and_then(|dict| self.get(dict, "Type")?.name());
            kind == Some(name)
        };
        let mut numbers: Vec<&u32> = self.objects.keys().collect();
        numbers.sort_unstable();
        let of_kind = |name: &'static str| {
            let values = numbers.iter().map(|number| &self.objects[*number].value);
            values.filter(move |value| is(value, name))
        };
        let root = self
            .root
            .as_ref()
            .and_then(|root| self.resolve(root)?.dict());
        let root = root.or_else(|| of_kind("Catalog").last()?.dict());
        let mut pages = Vec::new();
        if let Some(tree) = root.and_then(|root| root.get("Pages")) {
            let mut walk = Walk {
                file: self,
                entered: HashSet::new(),
                pages: &mut pages,
            };
            walk.enter(tree, None, 0);
        }
        if pages.is_empty() {
            let dicts = of_kind("Page").filter_map(Object::dict).take(PAGES_MAX);
            pages.extend(dicts.map(|dict| Page {
                dict,
                resources: self.dict(dict, "Resources"),
            }));
        }
        pages
    }
}

/// A walk through the page tree.
struct Walk<'f, 'w> {
    file: &'f File<'f>,
    entered: HashSet<u32>,
    pages: &'w mut Vec<Page<'f>>,
}

impl<'f> Walk<'f, '_> {
    fn enter(&mut self, node: &'f Object, above: Option<&'f Dict>, depth: usize) {
        if let Object::Reference(number) = node
            && !self.entered.insert(*number)
        {
            return;
        }
        let Some(dict) = self.file.resolve(node).and_then(Object::dict) else {
            return;
        };
        let resources = self.file.dict(dict, "Resources").or(above);
        match self.file.get(dict, "Kids").and_then(Object::array) {
            Some(kids) if depth < DEPTH_MAX => {
                for kid in kids {
                    self.enter(kid, resources, depth + 1);
                }
            }
            None if self.pages.len() < PAGES_MAX => self.pages.push(Page { dict, resources }),
            Some(_) | None => {}
        }
    }
}

/// Something that is looked for in a file.
enum Found {
    /// `12 0 obj`
    Object { number: u32, start: usize },
    /// `trailer`
    Trailer { start: usize },
}

/// The next object or trailer from the byte `from` on.
fn next_word(bytes: &[u8], from: usize) -> Option<Found> {
    let mut at = from;
    loop {
        at += bytes
            .get(at..)?
            .iter()
            .position(|byte| matches!(byte, b'o' | b't'))?;
        let rest = &bytes[at..];
        if rest.starts_with(b"trailer") {
            return Some(Found::Trailer { start: at + 7 });
        }
        if rest.starts_with(b"obj")
            && let Some(number) = number_before(&bytes[from..at])
        {
            return Some(Found::Object {
                number,
                start: at + 3,
            });
        }
        at += 1;
    }
}

/// The number of `12 0 ` at the end of `bytes`.
fn number_before(bytes: &[u8]) -> Option<u32> {
    // No number is longer, and what is looked at is bounded.
    let tail = &bytes[bytes.len().saturating_sub(32)..];
    let mut words = tail
        .rsplit(|byte| objects::is_space(*byte))
        .filter(|word| !word.is_empty());
    let digits = |word: &[u8]| std::str::from_utf8(word).ok()?.parse::<u32>().ok();
    digits(words.next()?)?;
    let word = words.next()?;
    // What stands before it without a space is not part of it.
    let start = word
        .iter()
        .rposition(|byte| !byte.is_ascii_digit())
        .map_or(0, |at| at + 1);
    digits(&word[start..])
}

/// Where a word ends that stands at the byte `at`, after spaces at most.
fn word_at(bytes: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    let rest = bytes.get(at..)?;
    let spaces = rest
        .iter()
        .take_while(|byte| objects::is_space(**byte))
        .count();
    rest[spaces..]
        .starts_with(word)
        .then_some(at + spaces + word.len())
}

fn find(bytes: &[u8], word: &[u8], from: usize) -> Option<usize> {
    let found = bytes
        .get(from..)?
        .windows(word.len())
        .position(|window| window == word)?;
    Some(from + found)
}

/// As much as can be unpacked; a stream that was cut short is read as far as it goes.
fn inflated(bytes: &[u8], room: usize) -> Vec<u8> {
    decompress_to_vec_zlib_with_limit(bytes, room).unwrap_or_else(|error| error.output)
}

fn ascii85(bytes: &[u8]) -> Vec<u8> {
    let mut unpacked = Vec::with_capacity(bytes.len() / 5 * 4);
    let mut group: Vec<u8> = Vec::with_capacity(5);
    for byte in bytes {
        match byte {
            b'z' if group.is_empty() => unpacked.extend([0; 4]),
            b'!'..=b'u' => group.push(byte - b'!'),
            b'~' => break,
            _ => {}
        }
        if group.len() == 5 {
            unpacked.extend(four(&group));
            group.clear();
        }
    }
    if group.len() > 1 {
        let kept = group.len() - 1;
        group.resize(5, 84);
        unpacked.extend(&four(&group)[..kept]);
    }
    unpacked
}

fn four(group: &[u8]) -> [u8; 4] {
    let value = group.iter().fold(0u32, |value, digit| {
        value.wrapping_mul(85).wrapping_add(u32::from(*digit))
    });
    value.to_be_bytes()
}

#[cfg(test)]
mod tests;
