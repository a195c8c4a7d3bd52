//! A pickle machine that builds plain values and calls nothing.
//!
//! Values lie in one table and refer to each other by index, so that shared, cyclic and deeply nested ones cost no
//! more than the opcodes that make them, and are freed without recursion. What a pickle imports stays a name
//! ([`Node::Global`]), and what it calls stays a call ([`Node::Call`]), which `state_dict` interprets where it
//! knows the function. Only `collections.OrderedDict` becomes a dict at once, for items follow.
//!
//! The opcodes are those of Python's `pickletools`, protocols 0 to 5, without extension codes and out-of-band
//! buffers.

use std::collections::HashMap;
use std::io::BufRead;

use crate::error::{PickleError, PickleFault};
use crate::input::Input;

/// The memory, in bytes, that the values of a pickle may need: some hundred times what the state_dict of a large
/// network does, whose tensors' values are not in the pickle.
pub const MAX_PICKLE_MEMORY: usize = 1 << 27;

/// The longest name, in bytes, of an import or a key that is of interest.
pub(crate) const MAX_NAME: usize = 1024;

/// An index into the table of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Id(u32);

/// A value.
#[derive(Debug)]
pub(crate) enum Node {
    None,
    Bool(bool),
    Int(i128),
    Str(Box<str>),
    /// A value that no tensor is made of, as it is called in messages.
    Plain(&'static str),
    Tuple(Box<[Id]>),
    List(Vec<Id>),
    /// In the order of insertion, with keys that were set again.
    Dict(Vec<(Id, Id)>),
    /// An import, as `module.name`.
    Global(Box<str>),
    /// What would be the result of a call.
    Call {
        callable: Id,
        args: Id,
        /// What BUILD would set.
        state: Option<Id>,
    },
    /// What the file keeps outside the pickle.
    Persistent(Id),
}

/// The values of a pickle.
#[derive(Debug)]
pub(crate) struct Pickle {
    nodes: Vec<Node>,
    root: Id,
    persistent: Vec<Id>,
}

impl Pickle {
    /// Reads one pickle, up to its STOP.
    pub(crate) fn read(input: &mut Input<impl BufRead>) -> Result<Self, PickleFault> {
        let mut machine = Machine {
            input,
            nodes: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            persistent: Vec::new(),
            spent: 0,
        };
        loop {
            let offset = machine.input.offset();
            match machine.step() {
                Ok(None) => {}
                Ok(Some(root)) => {
                    return Ok(Self { nodes: machine.nodes, root, persistent: machine.persistent });
                }
                Err(problem) => return Err(PickleFault { offset, problem }),
            }
        }
    }

    pub(crate) fn root_id(&self) -> Id {
        self.root
    }

    pub(crate) fn root(&self) -> &Node {
        self.node(self.root)
    }

    pub(crate) fn node(&self, id: Id) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// What the persistent ids refer to, one for each BINPERSID.
    pub(crate) fn persistent(&self) -> &[Id] {
        &self.persistent
    }

    /// The value that a dict has under `key`.
    pub(crate) fn get(&self, dict: Id, key: &str) -> Option<Id> {
        let Node::Dict(items) = self.node(dict) else { return None };
        let is_key = |id: Id| matches!(self.node(id), Node::Str(found) if **found == *key);
        items.iter().rev().find(|(found, _)| is_key(*found)).map(|(_, value)| *value)
    }

    /// A value in words, for messages.
    pub(crate) fn describe(&self, id: Id) -> String {
        describe(&self.nodes, id)
    }

    /// The function or class whose call `callable` and `args` are.
    pub(crate) fn maker(&self, callable: Id, args: Id) -> &str {
        maker(&self.nodes, callable, args)
    }
}

fn describe(nodes: &[Node], id: Id) -> String {
    let text = match &nodes[id.0 as usize] {
        Node::None => "None",
        Node::Bool(_) => "a bool",
        Node::Int(_) => "an int",
        Node::Str(_) => "a string",
        Node::Plain(kind) => kind,
        Node::Tuple(_) => "a tuple",
        Node::List(_) => "a list",
        Node::Dict(_) => "a dict",
        Node::Global(name) => return format!("the name `{name}`"),
        Node::Call { callable, args, .. } => {
            return format!("a pickled `{}`", maker(nodes, *callable, *args));
        }
        Node::Persistent(_) => "a storage",
    };
    text.to_owned()
}

fn maker(nodes: &[Node], callable: Id, args: Id) -> &str {
    let first = |tuple: Id, index: usize| match &nodes[tuple.0 as usize] {
        Node::Tuple(items) => items.get(index).map(|id| &nodes[id.0 as usize]),
        _ => None,
    };
    match &nodes[callable.0 as usize] {
        Node::Global(name) => match (&**name, first(args, 0)) {
            // How protocols 0 and 1 create objects.
            ("copy_reg._reconstructor" | "copyreg._reconstructor", Some(Node::Global(class))) => class,
            _ => name,
        },
        // `('module', class, file, source)`, how legacy files name the classes of modules.
        Node::Persistent(id) => match first(*id, 1) {
            Some(Node::Global(class)) => class,
            _ => "unnamed class",
        },
        _ => "unnamed function",
    }
}

struct Machine<'a, R> {
    input: &'a mut Input<R>,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
    persistent: Vec<Id>,
    /// Bytes of memory taken so far; what is freed does not count.
    spent: usize,
}

type Result<T, E = PickleError> = std::result::Result<T, E>;

impl<R: BufRead> Machine<'_, R> {
    /// One opcode; returns the root at STOP.
    fn step(&mut self) -> Result<Option<Id>> {
        match self.input.byte()? {
            // PROTO
            0x80 => match self.input.byte()? {
                0..=5 => {}
                version => return Err(PickleError::Protocol(version)),
            },
            // FRAME
            0x95 => {
                let length = u64::from_le_bytes(self.input.array()?);
                self.input.check(length)?;
            }
            // STOP
            b'.' => return self.pop().map(Some),

            // NONE, NEWTRUE, NEWFALSE
            b'N' => self.push(Node::None)?,
            0x88 => self.push(Node::Bool(true))?,
            0x89 => self.push(Node::Bool(false))?,
            // INT
            b'I' => {
                let line = self.input.line()?;
                let node = match &*line {
                    "00" => Node::Bool(false),
                    "01" => Node::Bool(true),
                    number => Node::Int(number.trim().parse().map_err(|_| PickleError::Text("integer"))?),
                };
                self.push(node)?;
            }
            // LONG
            b'L' => {
                let line = self.input.line()?;
                let digits = line.trim().trim_end_matches('L');
                self.push(Node::Int(digits.parse().map_err(|_| PickleError::Text("integer"))?))?;
            }
            // BININT, BININT1, BININT2
            b'J' => {
                let number = i32::from_le_bytes(self.input.array()?);
                self.push(Node::Int(number.into()))?;
            }
            b'K' => {
                let number = self.input.byte()?;
                self.push(Node::Int(number.into()))?;
            }
            b'M' => {
                let number = u16::from_le_bytes(self.input.array()?);
                self.push(Node::Int(number.into()))?;
            }
            // LONG1, LONG4
            0x8a => {
                let length = self.input.byte()?;
                self.long(length.into())?;
            }
            0x8b => {
                let length = self.u32()?;
                self.long(length)?;
            }
            // FLOAT, BINFLOAT
            b'F' => {
                self.input.line()?;
                self.push(Node::Plain("a float"))?;
            }
            b'G' => {
                self.input.skip(8)?;
                self.push(Node::Plain("a float"))?;
            }

            // STRING
            b'S' => {
                let line = self.input.line()?;
                let line = line.trim_end();
                let text = ['\'', '"'].iter().find_map(|&q| line.strip_prefix(q)?.strip_suffix(q));
                let text = text.ok_or(PickleError::Text("string: it is not quoted"))?;
                self.text_line(text)?;
            }
            // UNICODE
            b'V' => {
                let line = self.input.line()?;
                self.text_line(&line)?;
            }
            // BINSTRING, SHORT_BINSTRING: strings of Python 2, which may be bytes
            b'T' => {
                let length = self.u32()?;
                self.text(length, true)?;
            }
            b'U' => {
                let length = self.input.byte()?;
                self.text(length.into(), true)?;
            }
            // SHORT_BINUNICODE, BINUNICODE, BINUNICODE8
            0x8c => {
                let length = self.input.byte()?;
                self.text(length.into(), false)?;
            }
            b'X' => {
                let length = self.u32()?;
                self.text(length, false)?;
            }
            0x8d => {
                let length = u64::from_le_bytes(self.input.array()?);
                self.text(length, false)?;
            }
            // SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8
            b'C' => {
                let length = self.input.byte()?;
                self.bytes(length.into())?;
            }
            b'B' => {
                let length = self.u32()?;
                self.bytes(length)?;
            }
            0x8e | 0x96 => {
                let length = u64::from_le_bytes(self.input.array()?);
                self.bytes(length)?;
            }

            // EMPTY_TUPLE, TUPLE1, TUPLE2, TUPLE3, TUPLE
            b')' => self.push(Node::Tuple(Box::default()))?,
            count @ 0x85..=0x87 => {
                let items = self.pop_last(usize::from(count - 0x84))?;
                self.push_tuple(items)?;
            }
            b't' => {
                let items = self.pop_marked()?;
                self.push_tuple(items)?;
            }
            // EMPTY_LIST, LIST, APPEND, APPENDS
            b']' => self.push(Node::List(Vec::new()))?,
            b'l' => {
                let items = self.pop_marked()?;
                self.spend_items(items.len())?;
                self.push(Node::List(items))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_marked()?;
                self.append(items)?;
            }
            // EMPTY_DICT, DICT, SETITEM, SETITEMS
            b'}' => self.push(Node::Dict(Vec::new()))?,
            b'd' => {
                let items = self.pop_marked()?;
                self.push(Node::Dict(Vec::new()))?;
                self.set(&items)?;
            }
            b's' => {
                let items = self.pop_last(2)?;
                self.set(&items)?;
            }
            b'u' => {
                let items = self.pop_marked()?;
                self.set(&items)?;
            }
            // EMPTY_SET, ADDITEMS, FROZENSET
            0x8f => self.push(Node::Plain("a set"))?,
            0x90 => {
                self.pop_marked()?;
                self.top()?;
            }
            0x91 => {
                self.pop_marked()?;
                self.push(Node::Plain("a set"))?;
            }

            // MARK, POP, POP_MARK, DUP
            b'(' => {
                self.spend(size_of::<usize>())?;
                self.marks.push(self.stack.len());
            }
            b'0' => {
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop()?;
                }
            }
            b'1' => {
                self.pop_marked()?;
            }
            b'2' => {
                let top = self.top()?;
                self.push_id(top)?;
            }
            // PUT, BINPUT, LONG_BINPUT, MEMOIZE
            b'p' => {
                let index = self.index_line()?;
                self.put(index)?;
            }
            b'q' => {
                let index = self.input.byte()?;
                self.put(index.into())?;
            }
            b'r' => {
                let index = self.u32()?;
                self.put(index)?;
            }
            0x94 => self.put(self.memo.len() as u64)?,
            // GET, BINGET, LONG_BINGET
            b'g' => {
                let index = self.index_line()?;
                self.fetch(index)?;
            }
            b'h' => {
                let index = self.input.byte()?;
                self.fetch(index.into())?;
            }
            b'j' => {
                let index = self.u32()?;
                self.fetch(index)?;
            }

            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let (module, name) = (self.input.line()?, self.input.line()?);
                self.global(&module, &name)?;
            }
            0x93 => {
                let name = self.pop_name()?;
                let module = self.pop_name()?;
                self.global(&module, &name)?;
            }
            // REDUCE, NEWOBJ, NEWOBJ_EX
            b'R' | 0x81 => {
                let (args, callable) = (self.pop()?, self.pop()?);
                self.call(callable, args)?;
            }
            0x92 => {
                let (_keywords, args, callable) = (self.pop()?, self.pop()?, self.pop()?);
                self.call(callable, args)?;
            }
            // INST, OBJ
            b'i' => {
                let (module, name) = (self.input.line()?, self.input.line()?);
                let args = self.pop_marked()?;
                self.global(&module, &name)?;
                let callable = self.pop()?;
                self.push_tuple(args)?;
                let args = self.pop()?;
                self.call(callable, args)?;
            }
            b'o' => {
                let mut args = self.pop_marked()?;
                if args.is_empty() {
                    return Err(PickleError::EmptyStack);
                }
                let callable = args.remove(0);
                self.push_tuple(args)?;
                let args = self.pop()?;
                self.call(callable, args)?;
            }
            // BUILD: of importance to calls only
            b'b' => {
                let new = self.pop()?;
                let top = self.top()?;
                if let Node::Call { state, .. } = self.node_mut(top) {
                    *state = Some(new);
                }
            }
            // PERSID, BINPERSID
            b'P' => {
                let line = self.input.line()?;
                self.push_text(&line)?;
                let id = self.pop()?;
                self.persistent(id)?;
            }
            b'Q' => {
                let id = self.pop()?;
                self.persistent(id)?;
            }
            opcode => return Err(PickleError::Opcode(opcode)),
        }
        Ok(None)
    }

    fn u32(&mut self) -> Result<u64> {
        Ok(u32::from_le_bytes(self.input.array()?).into())
    }

    fn node(&self, id: Id) -> &Node {
        &self.nodes[id.0 as usize]
    }

    fn node_mut(&mut self, id: Id) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    fn spend(&mut self, bytes: usize) -> Result<()> {
        self.spent = self.spent.saturating_add(bytes);
        if self.spent > MAX_PICKLE_MEMORY { Err(PickleError::TooLarge(MAX_PICKLE_MEMORY)) } else { Ok(()) }
    }

    fn spend_items(&mut self, count: usize) -> Result<()> {
        self.spend(count.saturating_mul(size_of::<Id>()))
    }

    fn push_id(&mut self, id: Id) -> Result<()> {
        self.spend_items(1)?;
        self.stack.push(id);
        Ok(())
    }

    fn push(&mut self, node: Node) -> Result<()> {
        self.spend(size_of::<Node>())?;
        // `MAX_PICKLE_MEMORY` keeps the index below 2^32.
        let id = Id(self.nodes.len() as u32);
        self.nodes.push(node);
        self.push_id(id)
    }

    fn push_text(&mut self, text: &str) -> Result<()> {
        self.spend(text.len())?;
        self.push(Node::Str(text.into()))
    }

    fn push_tuple(&mut self, items: Vec<Id>) -> Result<()> {
        self.spend_items(items.len())?;
        self.push(Node::Tuple(items.into()))
    }

    /// The height of the stack that the current mark leaves to pop.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Id> {
        if self.stack.len() <= self.floor() {
            return Err(PickleError::EmptyStack);
        }
        self.stack.last().copied().ok_or(PickleError::EmptyStack)
    }

    fn pop(&mut self) -> Result<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_last(&mut self, count: usize) -> Result<Vec<Id>> {
        match self.stack.len().checked_sub(count) {
            Some(at) if at >= self.floor() => Ok(self.stack.split_off(at)),
            _ => Err(PickleError::EmptyStack),
        }
    }

    fn pop_marked(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or(PickleError::NoMark)?;
        Ok(self.stack.split_off(mark))
    }

    fn pop_name(&mut self) -> Result<String> {
        let id = self.pop()?;
        match self.node(id) {
            Node::Str(name) if name.len() <= MAX_NAME => Ok(name.to_string()),
            Node::Str(_) => Err(PickleError::Text("name: it is too long")),
            _ => Err(self.wrong_kind("a string", id)),
        }
    }

    fn wrong_kind(&self, expected: &'static str, found: Id) -> PickleError {
        PickleError::Kind { expected, found: describe(&self.nodes, found) }
    }

    /// An integer of `length` bytes.
    fn long(&mut self, length: u64) -> Result<()> {
        if length > 16 {
            self.input.skip(length)?;
            return self.push(Node::Plain("a huge int"));
        }
        let bytes = self.input.bytes(length)?;
        let sign = if bytes.last().is_some_and(|&last| last >= 0x80) { 0xff } else { 0 };
        let mut padded = [sign; 16];
        padded[..bytes.len()].copy_from_slice(&bytes);
        self.push(Node::Int(i128::from_le_bytes(padded)))
    }

    /// A string of `length` bytes.
    fn text(&mut self, length: u64, may_be_bytes: bool) -> Result<()> {
        self.input.check(length)?;
        self.spend(usize::try_from(length).unwrap_or(usize::MAX))?;
        match String::from_utf8(self.input.bytes(length)?) {
            Ok(text) => self.push(Node::Str(text.into())),
            Err(_) if may_be_bytes => self.push(Node::Plain("bytes")),
            Err(_) => Err(PickleError::Text("string: not UTF-8")),
        }
    }

    /// A string of the protocols that are text. What needs escapes is no name of a tensor.
    fn text_line(&mut self, text: &str) -> Result<()> {
        if text.contains('\\') { self.push(Node::Plain("an escaped string")) } else { self.push_text(text) }
    }

    fn bytes(&mut self, length: u64) -> Result<()> {
        self.input.skip(length)?;
        self.push(Node::Plain("bytes"))
    }

    fn index_line(&mut self) -> Result<u64> {
        self.input.line()?.trim().parse().map_err(|_| PickleError::Text("memo index"))
    }

    fn put(&mut self, index: u64) -> Result<()> {
        let top = self.top()?;
        self.spend(size_of::<(u64, Id)>())?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn fetch(&mut self, index: u64) -> Result<()> {
        let id = *self.memo.get(&index).ok_or(PickleError::UnknownMemo(index))?;
        self.push_id(id)
    }

    fn append(&mut self, items: Vec<Id>) -> Result<()> {
        self.spend_items(items.len())?;
        let target = self.top()?;
        match self.node_mut(target) {
            Node::List(list) => list.extend(items),
            // An object that is filled, and ignored.
            Node::Call { .. } => {}
            _ => return Err(self.wrong_kind("a list", target)),
        }
        Ok(())
    }

    fn set(&mut self, items: &[Id]) -> Result<()> {
        self.spend_items(items.len())?;
        let target = self.top()?;
        let (pairs, rest) = items.as_chunks();
        if !rest.is_empty() {
            return Err(PickleError::EmptyStack);
        }
        match self.node_mut(target) {
            Node::Dict(dict) => dict.extend(pairs.iter().map(|[key, value]| (*key, *value))),
            Node::Call { .. } => {}
            _ => return Err(self.wrong_kind("a dict", target)),
        }
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<()> {
        let full = format!("{module}.{name}");
        if full.len() > MAX_NAME || full.chars().any(char::is_control) {
            return Err(PickleError::Text("name: it is too long or has control characters"));
        }
        self.spend(full.len())?;
        self.push(Node::Global(full.into()))
    }

    fn persistent(&mut self, id: Id) -> Result<()> {
        self.spend_items(1)?;
        self.persistent.push(id);
        self.push(Node::Persistent(id))
    }

    fn call(&mut self, callable: Id, args: Id) -> Result<()> {
        let Node::Tuple(items) = self.node(args) else { return Err(self.wrong_kind("a tuple", args)) };
        match self.node(callable) {
            Node::Global(name) if **name == *"collections.OrderedDict" => {
                let items = items.first().copied();
                let dict = self.ordered_dict(items)?;
                self.push(Node::Dict(dict))
            }
            // How protocols up to 2 write bytes.
            Node::Global(name) if matches!(&**name, "_codecs.encode" | "__builtin__.bytes") => {
                self.push(Node::Plain("bytes"))
            }
            Node::Global(_) | Node::Persistent(_) | Node::Call { .. } => {
                self.push(Node::Call { callable, args, state: None })
            }
            _ => Err(self.wrong_kind("a function or class", callable)),
        }
    }

    /// An OrderedDict, empty or of pairs, as Python 2 pickles it.
    fn ordered_dict(&mut self, pairs: Option<Id>) -> Result<Vec<(Id, Id)>> {
        let Some(id) = pairs else { return Ok(Vec::new()) };
        let Node::List(pairs) = self.node(id) else { return Err(self.wrong_kind("a list of pairs", id)) };
        let count = pairs.len();
        self.spend_items(count.saturating_mul(2))?;
        let Node::List(pairs) = self.node(id) else { return Err(self.wrong_kind("a list of pairs", id)) };
        let pair = |&id: &Id| match self.node(id) {
            Node::List(pair) if pair.len() == 2 => Ok((pair[0], pair[1])),
            Node::Tuple(pair) if pair.len() == 2 => Ok((pair[0], pair[1])),
            _ => Err(self.wrong_kind("a pair", id)),
        };
        pairs.iter().map(pair).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Pickle, PickleFault> {
        Pickle::read(&mut Input::new(bytes, bytes.len() as u64))
    }

    /// A value in Python's notation.
    fn render(pickle: &Pickle, id: Id) -> String {
        let all = |ids: &[Id]| ids.iter().map(|&id| render(pickle, id)).collect::<Vec<_>>().join(", ");
        match pickle.node(id) {
            Node::None => "None".to_owned(),
            Node::Bool(value) => value.to_string(),
            Node::Int(value) => value.to_string(),
            Node::Str(text) => format!("'{text}'"),
            Node::Plain(kind) => format!("<{kind}>"),
            Node::Tuple(items) => format!("({})", all(items)),
            Node::List(items) => format!("[{}]", all(items)),
            Node::Dict(items) => {
                let pairs =
                    items.iter().map(|(k, v)| format!("{}: {}", render(pickle, *k), render(pickle, *v)));
                format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
            }
            Node::Global(name) => name.to_string(),
            Node::Call { callable, args, state } => {
                let state = state.map(|state| format!(".set({})", render(pickle, state))).unwrap_or_default();
                format!("{}{}{state}", render(pickle, *callable), render(pickle, *args))
            }
            Node::Persistent(id) => format!("@{}", render(pickle, *id)),
        }
    }

    #[test]
    fn every_opcode_makes_its_value() {
        let cases: &[(&[u8], &str)] = &[
            (b"N.", "None"),
            (b"\x88.", "true"),
            (b"\x89.", "false"),
            (b"I01\n.", "true"),
            (b"I00\n.", "false"),
            (b"I-12\n.", "-12"),
            (b"L123456789012345678901L\n.", "123456789012345678901"),
            (b"J\xfe\xff\xff\xff.", "-2"),
            (b"K\xff.", "255"),
            (b"M\x00\x80.", "32768"),
            (b"\x8a\x00.", "0"),
            (b"\x8a\x01\xff.", "-1"),
            (b"\x8a\x02\xff\x00.", "255"),
            (b"\x8b\x01\0\0\0\x07.", "7"),
            (b"\x8a\x110123456789abcdef0.", "<a huge int>"),
            (b"F1.5\n.", "<a float>"),
            (b"G01234567.", "<a float>"),
            (b"S'ab'\n.", "'ab'"),
            (b"S\"a'b\"\n.", "'a'b'"),
            (b"S'\\x00'\n.", "<an escaped string>"),
            (b"Vab\n.", "'ab'"),
            (b"T\x02\0\0\0ab.", "'ab'"),
            (b"U\x01\xff.", "<bytes>"),
            (b"\x8c\x02\xc3\xa9.", "'\u{e9}'"),
            (b"X\x02\0\0\0ab.", "'ab'"),
            (b"\x8d\x02\0\0\0\0\0\0\0ab.", "'ab'"),
            (b"C\x02ab.", "<bytes>"),
            (b"B\x02\0\0\0ab.", "<bytes>"),
            (b"\x8e\x02\0\0\0\0\0\0\0ab.", "<bytes>"),
            (b"\x96\x02\0\0\0\0\0\0\0ab.", "<bytes>"),
            (b").", "()"),
            (b"N\x85.", "(None)"),
            (b"NK\x01\x86.", "(None, 1)"),
            (b"NNN\x87.", "(None, None, None)"),
            (b"N(K\x01K\x02t\x86.", "(None, (1, 2))"),
            (b"].", "[]"),
            (b"(K\x01K\x02l.", "[1, 2]"),
            (b"]Na(K\x01K\x02e.", "[None, 1, 2]"),
            (b"}.", "{}"),
            (b"(K\x01Nd.", "{1: None}"),
            (b"}K\x01Ns(K\x02NK\x03Nu.", "{1: None, 2: None, 3: None}"),
            (b"\x8f(NN\x90.", "<a set>"),
            (b"(NN\x91.", "<a set>"),
            (b"NK\x010.", "None"),
            (b"N(0.", "None"),
            (b"N(NN1.", "None"),
            (b"N2\x86.", "(None, None)"),
            (b"K\x01p5\ng5\n\x86.", "(1, 1)"),
            (b"K\x01q\x05h\x05\x86.", "(1, 1)"),
            (b"K\x01r\x05\0\0\0j\x05\0\0\0\x86.", "(1, 1)"),
            (b"\x80\x04\x95\x04\0\0\0\0\0\0\0N\x94K\x01\x94h\x01\x87.", "(None, 1, 1)"),
            (b"ca.b\nc\n.", "a.b.c"),
            (b"\x8c\x01a\x8c\x01b\x93.", "a.b"),
            (b"ca\nb\n)R.", "a.b()"),
            (b"ca\nb\nN\x85\x81.", "a.b(None)"),
            (b"ca\nb\n)}\x92.", "a.b()"),
            (b"(K\x01ia\nb\n.", "a.b(1)"),
            (b"(ca\nb\nK\x01o.", "a.b(1)"),
            (b"ca\nb\n)R}b.", "a.b().set({})"),
            (b"ca\nb\n)RNa(NNe.", "a.b()"),
            (b"ca\nb\n)RNNs(NNu.", "a.b()"),
            (b"Pab\n.", "@'ab'"),
            (b")Q.", "@()"),
            (b"ccollections\nOrderedDict\n)RK\x01Ns}b.", "{1: None}"),
            (b"ccollections\nOrderedDict\n](K\x01Nla\x85R.", "{1: None}"),
            (b"c_codecs\nencode\n)R.", "<bytes>"),
        ];
        for (bytes, expected) in cases {
            let pickle = read(bytes).unwrap_or_else(|fault| panic!("{}: {fault:?}", bytes.escape_ascii()));
            assert_eq!(render(&pickle, pickle.root_id()), *expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn errors_have_the_place_of_their_opcode() {
        let cases: &[(&[u8], u64, &str)] = &[
            (b"", 0, "1 bytes are needed, and 0 are left"),
            (b"N", 1, "1 bytes are needed, and 0 are left"),
            (b"\x80\x02X\x05\0\0\0ab", 2, "5 bytes are needed, and 2 are left"),
            (b"NN\xff.", 2, "opcode 0xff is not supported"),
            (b"NIx\n.", 1, "malformed integer"),
            (b"Sab\n.", 0, "malformed string: it is not quoted"),
            (b"I1", 0, "malformed line: it does not end"),
        ];
        for (bytes, offset, problem) in cases {
            let fault = read(bytes).unwrap_err();
            assert_eq!((fault.offset, &*fault.problem.to_string()), (*offset, *problem));
        }
    }

    #[test]
    fn objects_are_told_by_their_class() {
        let cases: &[(&[u8], &str)] = &[
            (b"cm\nC\n)\x81}b.", "m.C"),
            (b"ccopy_reg\n_reconstructor\n(cm\nC\nc__builtin__\nobject\nNtR.", "m.C"),
            (b"(X\x06\0\0\0modulecm\nC\nNNtQ)\x81.", "m.C"),
            (b"cm\nf\n)R)R.", "unnamed function"),
        ];
        for (bytes, class) in cases {
            let pickle = read(bytes).unwrap();
            assert_eq!(pickle.describe(pickle.root_id()), format!("a pickled `{class}`"));
        }
    }
}
