// Elements of HTML and of SVG with their attributes and children, as the figures make them.

const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
function fill(node, attributes, children) {
  for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
  node.append(...children);
  return node;
}
