//! Fonts: which characters the codes of a text mean, and how wide they are.
//!
//! The font's own table to Unicode counts first, then its encoding with the names of glyphs. A code that neither knows says
//! nothing. Tables: ISO 32000-1, 9.10 and annex D.

use std::collections::HashMap;
use std::rc::Rc;

use super::File;
use super::objects::{Dict, Lexer, Object};

/// Entries of one font's table.
const CODES_MAX: usize = 1 << 16;

/// Codes read from the tables of one font.
const READ_MAX: usize = 4 * CODES_MAX;

/// Codes are below this.
const CODE_MAX: f64 = 16_777_216.0;

/// Characters that one code may mean, such as those of a ligature.
const CHARS_OF_CODE_MAX: usize = 8;

/// Width of a character that its font gives none, in the thousandths that fonts count in.
const WIDTH: f64 = 500.0;

/// The upper half of a table of single bytes; the lower is ASCII.
pub(super) struct Table {
    first: u8,
    chars: &'static str,
}

/// Windows code page 1252, from 0x80 on; above it is Latin-1.
pub(super) const WIN_ANSI: Table = Table {
    first: 0x80,
    chars: "€•‚ƒ„…†‡ˆ‰Š‹Œ•Ž••‘’“”•–—˜™š›œ•žŸ",
};

const MAC_ROMAN: Table = Table {
    first: 0x80,
    chars: "ÄÅÇÉÑÖÜáàâäãåçéèêëíìîïñóòôöõúùûü†°¢£§•¶ß®©™´¨≠ÆØ∞±≤≥¥µ∂∑∏π∫ªºΩæø¿¡¬√ƒ≈∆«»… ÀÃÕŒœ–—“”‘’÷◊ÿŸ⁄€‹›ﬁﬂ‡·‚„‰ÂÊÁËÈÍÎÏÌÓÔÒÚÛÙıˆ˜¯˘˙˚¸˝˛ˇ",
};

/// Names of glyphs that are no letter of ASCII.
const GLYPHS: &str = "space  |exclam !|quotedbl \"|numbersign #|dollar $|percent %|ampersand &|quotesingle '|quoteright ’|\
    quoteleft ‘|parenleft (|parenright )|asterisk *|plus +|comma ,|hyphen -|minus −|period .|slash /|zero 0|one 1|two 2|\
    three 3|four 4|five 5|six 6|seven 7|eight 8|nine 9|colon :|semicolon ;|less <|equal =|greater >|question ?|at @|\
    bracketleft [|backslash \\|bracketright ]|asciicircum ^|underscore _|grave `|braceleft {|bar ||braceright }|\
    asciitilde ~|bullet •|endash –|emdash —|ellipsis …|quotedblleft “|quotedblright ”|quotesinglbase ‚|quotedblbase „|\
    guillemotleft «|guillemotright »|guilsinglleft ‹|guilsinglright ›|dagger †|daggerdbl ‡|section §|paragraph ¶|\
    copyright ©|registered ®|trademark ™|degree °|plusminus ±|multiply ×|divide ÷|Euro €|sterling £|yen ¥|cent ¢|\
    fi fi|fl fl|ff ff|ffi ffi|ffl ffl|germandbls ß|ae æ|AE Æ|oe œ|OE Œ|oslash ø|Oslash Ø|aring å|Aring Å|dotlessi ı|\
    lslash ł|Lslash Ł|eth ð|thorn þ|mu µ|periodcentered ·|exclamdown ¡|questiondown ¿|nbspace  ";

/// Accents in the names of letters, such as `eacute`, as the characters that are put after the letter.
const ACCENTS: [(&str, char); 8] = [
    ("acute", '\u{301}'),
    ("grave", '\u{300}'),
    ("circumflex", '\u{302}'),
    ("dieresis", '\u{308}'),
    ("tilde", '\u{303}'),
    ("cedilla", '\u{327}'),
    ("caron", '\u{30c}'),
    ("ring", '\u{30a}'),
];

impl Table {
    /// What a byte means.
    pub(super) fn char(&self, byte: u8) -> char {
        let above = byte.checked_sub(self.first).map(usize::from);
        let found = above.and_then(|above| self.chars.chars().nth(above));
        found.unwrap_or(char::from(byte))
    }
}

/// Fonts that were read, by where their dictionaries are.
#[derive(Default)]
pub(super) struct Fonts {
    known: HashMap<usize, Rc<Font>>,
}

impl Fonts {
    pub(super) fn of(&mut self, file: &File<'_>, dict: &Dict) -> Rc<Font> {
        let place = std::ptr::from_ref(dict).addr();
        let known = self.known.entry(place);
        Rc::clone(known.or_insert_with(|| Rc::new(Font::of(file, dict))))
    }
}

/// What the codes of one font mean.
#[derive(Debug, Default)]
pub(super) struct Font {
    /// Bytes of a code: one or two.
    code_bytes: usize,
    chars: HashMap<u32, String>,
    widths: HashMap<u32, f64>,
    width: f64,
    /// Units of a width in those of a text.
    scale: f64,
    /// Codes that were read from tables, the same ones again included: a table may say a lot in a few bytes.
    read: usize,
}

/// A character as it is shown.
pub(super) struct Shown<'f> {
    pub(super) text: &'f str,
    /// In units of the font's size.
    pub(super) width: f64,
    /// Whether it is the single byte that spaces between words are added to.
    pub(super) is_space: bool,
}

impl Font {
    fn of(file: &File<'_>, dict: &Dict) -> Self {
        let wide = file.get(dict, "Subtype").and_then(Object::name) == Some("Type0");
        let mut font = Self {
            code_bytes: if wide { 2 } else { 1 },
            width: WIDTH,
            scale: 0.001,
            ..Self::default()
        };
        if wide {
            font.read_wide(file, dict);
        } else {
            font.read_simple(file, dict);
        }
        let table = dict.get("ToUnicode").and_then(|table| file.stream(table));
        if let Some((_, table)) = table {
            font.read_table(&table);
        }
        font
    }

    /// The characters of a text.
    pub(super) fn show<'f>(&'f self, text: &'f [u8]) -> impl Iterator<Item = Shown<'f>> {
        text.chunks(self.code_bytes.max(1)).map(|code| {
            let number = code
                .iter()
                .fold(0, |number, byte| (number << 8) | u32::from(*byte));
            let width = self.widths.get(&number).copied().unwrap_or(self.width);
            Shown {
                text: self.chars.get(&number).map_or("", String::as_str),
                width: width * self.scale,
                is_space: code == b" ",
            }
        })
    }

    fn read_simple(&mut self, file: &File<'_>, dict: &Dict) {
        let first = file.get(dict, "FirstChar").and_then(Object::number);
        let first = first.unwrap_or(0.0).min(CODE_MAX) as u32;
        let widths = file
            .get(dict, "Widths")
            .and_then(Object::array)
            .unwrap_or_default();
        for (code, width) in (first..).zip(widths.iter().take(256)) {
            if let Some(width) = file.resolve(width).and_then(Object::number) {
                self.widths.insert(code, width);
            }
        }
        if let Some(matrix) = file.get(dict, "FontMatrix").and_then(Object::array) {
            let scale = matrix.first().and_then(Object::number);
            self.scale = scale.filter(|scale| *scale > 0.0).unwrap_or(self.scale);
        }
        let encoding = file.get(dict, "Encoding");
        let own = encoding.and_then(Object::dict);
        let base = match own {
            Some(own) => file.get(own, "BaseEncoding").and_then(Object::name),
            None => encoding.and_then(Object::name),
        };
        let table = match base {
            Some("MacRomanEncoding") => MAC_ROMAN,
            _ => WIN_ANSI,
        };
        for byte in 32..=255_u8 {
            self.chars
                .insert(u32::from(byte), table.char(byte).to_string());
        }
        let differences = own.and_then(|own| file.get(own, "Differences")?.array());
        let mut code = 0;
        for entry in differences.unwrap_or_default().iter().take(CODES_MAX) {
            match file.resolve(entry) {
                Some(Object::Number(next)) => code = *next as u32,
                Some(Object::Name(name)) => {
                    match glyph(name) {
                        Some(text) => self.chars.insert(code, text),
                        None => self.chars.remove(&code),
                    };
                    code = code.saturating_add(1);
                }
                _ => {}
            }
        }
    }

    fn read_wide(&mut self, file: &File<'_>, dict: &Dict) {
        self.width = 1000.0;
        let below = file.get(dict, "DescendantFonts").and_then(Object::array);
        let below = below.and_then(|fonts| file.resolve(fonts.first()?)?.dict());
        let Some(below) = below else {
            return;
        };
        if let Some(width) = file.get(below, "DW").and_then(Object::number) {
            self.width = width;
        }
        let widths = file
            .get(below, "W")
            .and_then(Object::array)
            .unwrap_or_default();
        let mut values = widths.iter().filter_map(|value| file.resolve(value));
        while let (Some(Object::Number(first)), Some(next)) = (values.next(), values.next()) {
            let first = first.min(CODE_MAX) as u32;
            match next {
                Object::Array(widths) => {
                    let widths = widths.iter().filter_map(Object::number);
                    self.widths.extend((first..).zip(widths).take(CODES_MAX));
                }
                Object::Number(last) => {
                    let Some(Object::Number(width)) = values.next() else {
                        break;
                    };
                    let codes = (first..=*last as u32).take(CODES_MAX);
                    self.read += codes.clone().count();
                    self.widths.extend(codes.map(|code| (code, *width)));
                }
                _ => break,
            }
            if self.read > READ_MAX || self.widths.len() > CODES_MAX {
                break;
            }
        }
    }

    /// A table to Unicode (ISO 32000-1, 9.10.3).
    fn read_table(&mut self, table: &[u8]) {
        let mut lexer = Lexer::new(table, 0);
        let mut operands: Vec<Object> = Vec::new();
        while let Some(object) = lexer.next() {
            let Object::Word(word) = &object else {
                operands.push(object);
                continue;
            };
            match word.as_str() {
                "endcodespacerange" => {
                    if let Some(Object::Text(code)) = operands.first() {
                        self.code_bytes = code.len().clamp(1, 2);
                    }
                }
                "endbfchar" => {
                    for pair in operands.chunks_exact(2) {
                        if let [Object::Text(code), Object::Text(text)] = pair {
                            self.learn(number(code), utf16(text));
                        }
                    }
                }
                "endbfrange" => {
                    for range in operands.chunks_exact(3) {
                        self.learn_range(range);
                    }
                }
                _ => {}
            }
            operands.clear();
        }
    }

    fn learn(&mut self, code: u32, text: String) {
        self.read += 1;
        if self.chars.len() < CODES_MAX && text.chars().nth(CHARS_OF_CODE_MAX).is_none() {
            self.chars.insert(code, text);
        }
    }

    fn learn_range(&mut self, range: &[Object]) {
        let [Object::Text(first), Object::Text(last), texts] = range else {
            return;
        };
        let codes = (number(first)..=number(last)).take(CODES_MAX);
        match texts {
            Object::Text(text) => {
                let text = utf16(text);
                let mut chars = text.chars();
                let Some(end) = chars.next_back() else {
                    return;
                };
                for (step, code) in (0..).zip(codes) {
                    if self.read > READ_MAX {
                        return;
                    }
                    if let Some(end) = char::from_u32(u32::from(end) + step) {
                        self.learn(code, format!("{}{end}", chars.as_str()));
                    }
                }
            }
            Object::Array(texts) => {
                for (code, text) in codes.zip(texts) {
                    if let Object::Text(text) = text {
                        self.learn(code, utf16(text));
                    }
                }
            }
            _ => {}
        }
    }
}

fn number(code: &[u8]) -> u32 {
    let low = code.iter().take(4);
    low.fold(0, |number, byte| (number << 8) | u32::from(*byte))
}

/// Text of 16-bit units, high byte first.
pub(super) fn utf16(bytes: &[u8]) -> String {
    let (units, _) = bytes.as_chunks::<2>();
    let units = units.iter().map(|unit| u16::from_be_bytes(*unit));
    char::decode_utf16(units).filter_map(Result::ok).collect()
}

/// What the name of a glyph means.
fn glyph(name: &str) -> Option<String> {
    let base = name.split('.').next().filter(|base| !base.is_empty())?;
    if base.len() == 1 && base.is_ascii() {
        return Some(base.to_owned());
    }
    let hex = base.strip_prefix("uni").or_else(|| base.strip_prefix('u'));
    let code = hex
        .filter(|hex| hex.len() >= 4)
        .and_then(|hex| hex.get(..hex.len().min(6)));
    let code = code.and_then(|hex| u32::from_str_radix(hex, 16).ok());
    if let Some(c) = code.and_then(char::from_u32) {
        return Some(c.to_string());
    }
    let listed = GLYPHS.split('|').find_map(|glyph| {
        let text = glyph.strip_prefix(base)?.strip_prefix(' ')?;
        Some(if text.is_empty() { "|" } else { text }.to_owned())
    });
    listed.or_else(|| {
        let (accent, mark) = ACCENTS.iter().find(|(accent, _)| base.ends_with(accent))?;
        let letter = base.strip_suffix(accent)?;
        let one = letter.len() == 1 && letter.is_ascii();
        one.then(|| unicode_normalization::char::compose(letter.chars().next()?, *mark))?
            .map(|c| c.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_glyphs_mean_characters() {
        for (name, text) in [
            ("A", "A"),
            ("space", " "),
            ("eacute", "é"),
            ("Udieresis", "Ü"),
            ("fi", "fi"),
            ("uni20AC", "€"),
            ("u1F600", "😀"),
            ("bar", "|"),
            ("a.alt", "a"),
            ("zero", "0"),
        ] {
            assert_eq!(glyph(name).as_deref(), Some(text), "{name}");
        }
        for name in ["g12", "", ".notdef", "cid:7"] {
            assert_eq!(glyph(name), None, "{name}");
        }
    }

    #[test]
    fn upper_bytes_are_read_by_their_table() {
        assert_eq!(WIN_ANSI.char(0x80), '€');
        assert_eq!(WIN_ANSI.char(0x9f), 'Ÿ');
        assert_eq!(WIN_ANSI.char(0xe9), 'é');
        assert_eq!(MAC_ROMAN.char(0x8e), 'é');
        assert_eq!(MAC_ROMAN.char(0xd2), '“');
        assert_eq!(MAC_ROMAN.char(b'A'), 'A');
    }

    #[test]
    fn a_table_to_unicode_is_read() {
        let table = b"1 begincodespacerange <0000> <ffff> endcodespacerange \
            2 beginbfchar <0001> <0048> <0002> <00660069> endbfchar \
            2 beginbfrange <0003> <0005> <0061> <0006> <0007> [<0078> <D83DDE00>] endbfrange \
            1 beginbfrange <0000> <ffffffff> <0041> endbfrange";
        let mut font = Font::default();
        font.read_table(&table[..table.len() - 50]);
        let text: String = font
            .show(b"\0\x01\0\x02\0\x03\0\x05\0\x06\0\x07\0\x09")
            .map(|of| of.text)
            .collect();
        assert_eq!(text, "Hfiacx😀");
        font.read_table(table);
        assert!(font.chars.len() <= CODES_MAX);
    }
}
