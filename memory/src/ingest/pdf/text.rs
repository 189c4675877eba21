//! Text: what the content of a page shows, in the order in which it is drawn.
//!
//! Follows where each text is drawn, so that words drawn apart are apart and lines are lines. Draws nothing, and reads no
//! pictures. Operators: ISO 32000-1, 8.4 and 9.4.

use std::rc::Rc;

use super::fonts::{Font, Fonts};
use super::objects::{Dict, Lexer, Object, is_space};
use super::{File, Page};

/// Text of one page; more is no text that anybody wrote.
const TEXT_BYTES_MAX: usize = 4 << 20;

/// Saved states.
const STATES_MAX: usize = 256;

/// Forms inside forms.
const FORMS_MAX: usize = 8;

/// Operands of an operator.
const OPERANDS_MAX: usize = 64;

/// Part of the font's size that a gap between two words has at least.
const WORD_GAP: f64 = 0.15;

/// Part of the font's size by which the next line is lower at least; less is a raised or lowered character.
const LINE_GAP: f64 = 0.55;

/// As much between two lines sets paragraphs apart.
const PARAGRAPH_GAP: f64 = 1.8;

/// The text of a page.
pub(super) fn of_page(file: &File<'_>, page: &Page<'_>, fonts: &mut Fonts) -> String {
    let mut content = Vec::new();
    let parts = match page.dict.get("Contents") {
        Some(one @ Object::Reference(_)) => match file.resolve(one) {
            Some(Object::Array(parts)) => parts.iter().collect(),
            _ => vec![one],
        },
        Some(Object::Array(parts)) => parts.iter().collect(),
        _ => Vec::new(),
    };
    for part in parts {
        if let Some((_, bytes)) = file.stream(part) {
            content.extend(bytes);
            content.push(b'\n');
        }
    }
    let mut reader = Reader {
        file,
        fonts,
        state: State::default(),
        saved: Vec::new(),
        text_matrix: Matrix::UNIT,
        line_matrix: Matrix::UNIT,
        end: None,
        text: String::new(),
    };
    reader.run(&content, page.resources, 0);
    reader.text
}

/// `[a b c d e f]`, which takes `(x, y)` to `(ax + cy + e, bx + dy + f)`.
#[derive(Clone, Copy, Debug)]
struct Matrix([f64; 6]);

impl Matrix {
    const UNIT: Self = Self([1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);

    fn moved(x: f64, y: f64) -> Self {
        Self([1.0, 0.0, 0.0, 1.0, x, y])
    }

    /// First `self`, then `next`.
    fn then(self, next: Self) -> Self {
        let ([a, b, c, d, e, f], [na, nb, nc, nd, ne, nf]) = (self.0, next.0);
        Self([
            a * na + b * nc,
            a * nb + b * nd,
            c * na + d * nc,
            c * nb + d * nd,
            e * na + f * nc + ne,
            e * nb + f * nd + nf,
        ])
    }
}

/// What `q` saves.
#[derive(Clone)]
struct State {
    matrix: Matrix,
    font: Option<Rc<Font>>,
    size: f64,
    leading: f64,
    char_space: f64,
    word_space: f64,
    stretch: f64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            matrix: Matrix::UNIT,
            font: None,
            size: 1.0,
            leading: 0.0,
            char_space: 0.0,
            word_space: 0.0,
            stretch: 1.0,
        }
    }
}

struct Reader<'r, 'f> {
    file: &'r File<'f>,
    fonts: &'r mut Fonts,
    state: State,
    saved: Vec<State>,
    text_matrix: Matrix,
    line_matrix: Matrix,
    /// Where the last text ended.
    end: Option<(f64, f64)>,
    text: String,
}

impl Reader<'_, '_> {
    fn run(&mut self, content: &[u8], resources: Option<&Dict>, depth: usize) {
        let mut lexer = Lexer::new(content, 0);
        let mut operands: Vec<Object> = Vec::new();
        while let Some(object) = lexer.next() {
            if self.text.len() > TEXT_BYTES_MAX {
                return;
            }
            let Object::Word(operator) = &object else {
                if operands.len() < OPERANDS_MAX {
                    operands.push(object);
                }
                continue;
            };
            match operator.as_str() {
                "ID" => lexer.skip_to(picture_end(content, lexer.at())),
                "Do" => self.form(&operands, resources, depth),
                "Tf" => self.font(&operands, resources),
                operator => self.apply(operator, &operands),
            }
            operands.clear();
        }
    }

    fn apply(&mut self, operator: &str, operands: &[Object]) {
        let number = |at: usize| operands.get(at).and_then(Object::number).unwrap_or(0.0);
        match operator {
            "q" if self.saved.len() < STATES_MAX => self.saved.push(self.state.clone()),
            "Q" => self.state = self.saved.pop().unwrap_or_else(|| self.state.clone()),
            "cm" => self.state.matrix = matrix(operands).then(self.state.matrix),
            "BT" => self.start_line(Matrix::UNIT),
            "Tm" => self.start_line(matrix(operands)),
            "Td" => self.next_line(number(0), number(1)),
            "TD" => {
                self.state.leading = -number(1);
                self.next_line(number(0), number(1));
            }
            "T*" => self.next_line(0.0, -self.state.leading),
            "TL" => self.state.leading = number(0),
            "Tc" => self.state.char_space = number(0),
            "Tw" => self.state.word_space = number(0),
            "Tz" => self.state.stretch = number(0) / 100.0,
            "Tj" => self.show(operands.first()),
            "TJ" => {
                for part in operands.first().and_then(Object::array).unwrap_or_default() {
                    match part {
                        Object::Number(back) => {
                            let step = -back / 1000.0 * self.state.size * self.state.stretch;
                            self.step(step);
                        }
                        part => self.show(Some(part)),
                    }
                }
            }
            "'" => {
                self.next_line(0.0, -self.state.leading);
                self.show(operands.first());
            }
            "\"" => {
                (self.state.word_space, self.state.char_space) = (number(0), number(1));
                self.next_line(0.0, -self.state.leading);
                self.show(operands.get(2));
            }
            _ => {}
        }
    }

    fn start_line(&mut self, at: Matrix) {
        (self.text_matrix, self.line_matrix) = (at, at);
    }

    fn next_line(&mut self, x: f64, y: f64) {
        self.start_line(Matrix::moved(x, y).then(self.line_matrix));
    }

    fn step(&mut self, x: f64) {
        self.text_matrix = Matrix::moved(x, 0.0).then(self.text_matrix);
    }

    fn font(&mut self, operands: &[Object], resources: Option<&Dict>) {
        let [Object::Name(name), Object::Number(size)] = operands else {
            return;
        };
        self.state.size = *size;
        let file = self.file;
        let fonts = resources.and_then(|resources| file.dict(resources, "Font"));
        let dict = fonts.and_then(|fonts| file.dict(fonts, name));
        self.state.font = dict.map(|dict| self.fonts.of(file, dict));
    }

    /// Content that a page draws by its name.
    fn form(&mut self, operands: &[Object], resources: Option<&Dict>, depth: usize) {
        let file = self.file;
        let objects = resources.and_then(|resources| file.dict(resources, "XObject"));
        let object = match (objects, operands) {
            (Some(objects), [Object::Name(name)]) => objects.get(name),
            _ => None,
        };
        let is_form = |object: &&Object| {
            let dict = file.resolve(object).and_then(Object::dict);
            let kind = dict.and_then(|dict| file.get(dict, "Subtype")?.name());
            kind == Some("Form") && depth < FORMS_MAX
        };
        let form = object
            .filter(is_form)
            .and_then(|object| file.stream(object));
        let Some((dict, content)) = form else {
            return;
        };
        let outer = self.state.clone();
        if let Some(values) = file.get(dict, "Matrix").and_then(Object::array) {
            self.state.matrix = matrix(values).then(self.state.matrix);
        }
        let own = file.dict(dict, "Resources").or(resources);
        self.run(&content, own, depth + 1);
        self.state = outer;
    }

    fn show(&mut self, text: Option<&Object>) {
        let (Some(Object::Text(bytes)), Some(font)) = (text, self.state.font.clone()) else {
            return;
        };
        self.set_apart();
        for shown in font.show(bytes) {
            self.text.push_str(shown.text);
            let State {
                size,
                char_space,
                word_space,
                stretch,
                ..
            } = self.state;
            let space = char_space + if shown.is_space { word_space } else { 0.0 };
            self.step((shown.width * size + space) * stretch);
        }
        let Matrix([.., x, y]) = self.text_matrix.then(self.state.matrix);
        self.end = Some((x, y));
    }

    /// A space, a new line or a new paragraph, after how far the next text stands from the last.
    fn set_apart(&mut self) {
        let Matrix([a, b, c, d, x, y]) = self.text_matrix.then(self.state.matrix);
        let (along, height) = (a.hypot(b), c.hypot(d) * self.state.size.abs());
        let (Some((end_x, end_y)), true) = (self.end, along > 0.0 && height > 0.0) else {
            return;
        };
        let (dx, dy) = (x - end_x, y - end_y);
        // Along the line of the text and across it, in parts of the font's size.
        let gap = (dx * a + dy * b) / along / height;
        let drop = ((dy * a - dx * b) / along / height).abs();
        let apart = if drop > PARAGRAPH_GAP {
            "\n\n"
        } else if drop > LINE_GAP || gap < -1.0 {
            "\n"
        } else if gap > WORD_GAP {
            " "
        } else {
            ""
        };
        let there = match apart {
            " " => self.text.ends_with([' ', '\n']),
            apart => self.text.ends_with(apart),
        };
        if !there {
            self.text.push_str(apart);
        }
    }
}

fn matrix(values: &[Object]) -> Matrix {
    let mut numbers = [0.0; 6];
    for (number, value) in numbers.iter_mut().zip(values) {
        *number = value.number().unwrap_or(0.0);
    }
    Matrix(numbers)
}

/// Where a picture inside the content ends that begins at the byte `start`.
fn picture_end(content: &[u8], start: usize) -> usize {
    let ends = |window: &[u8]| matches!(window, [before, b'E', b'I', after] if is_space(*before) && is_space(*after));
    let rest = content.get(start..).unwrap_or_default();
    rest.windows(4)
        .position(ends)
        .map_or(content.len(), |at| start + at + 3)
}
