"""The VEX of the scene: what the jitter table means, written for Houdini's wrangles.

One unit is one pixel of the sheet; its top left corner is the origin. x points right and y up, as
everywhere in Houdini, while the table's y points down: the three places where a y changes sign are
marked. The image is computed here and not in COPs because blur, contrast and noise differ from
sprite to sprite, and a COP has one setting for the whole picture.

The snippets are constants; `snippet` puts numbers before them. They hold no `$` and no backtick,
which Houdini would expand in a parameter, and no operator between an int and a float, whose result
in VEX depends on which comes first [?]. `tests/test_scene_vex.py` compiles them as C++, where such
a mixture is an error, runs the whole network, and holds its picture against the Python renderer's.
"""

WAVES = 32
"""Random waves of a warp, per axis."""
TAU = 6.283185

CELLS = """\
// A point in the middle of each cell, row by row from the top left.
for (int cell = 0; cell < GRID * GRID; cell++) {
    float x = float(CELL) * (float(cell % GRID) + 0.5);
    float y = -float(CELL) * (float(cell / GRID) + 0.5);  // y: down the sheet is negative here
    addpoint(0, set(x, y, 0.0));
}
"""

ROWS = """\
// The row of the jitter table for this digit, frame and cell. Input 1: the table, a point a row.
int frame = clamp(int(rint(@Frame)), 1, FRAMES);
int row = (FIRST_SHEET + frame - 1) * GRID * GRID + @ptnum;
int row_digit = point(1, "digit", row);
int row_frame = point(1, "frame", row);
int row_cell = point(1, "cell", row);
if (row_digit != DIGIT || row_frame != frame || row_cell != @ptnum)
    error("row %d of the table is not digit %d, frame %d, cell %d: build the scene anew",
          row, DIGIT, frame, @ptnum);

string source = point(1, "source", row);
i@filled = source == "font";
i@cell = @ptnum;
s@face = point(1, "face", row);
i@seed = point(1, "seed", row);
f@stroke_px = point(1, "stroke_px", row);
f@warp_px = point(1, "warp_px", row);
f@warp_scale_px = point(1, "warp_scale_px", row);
f@blur_px = point(1, "blur_px", row);
f@noise = point(1, "noise", row);
f@contrast = point(1, "contrast", row);
f@offset_x_px = point(1, "offset_x_px", row);
f@offset_y_px = point(1, "offset_y_px", row);

// VEX multiplies rows: P * transform. So the first factor acts first: scale, slant, rotate.
float scale_x = point(1, "scale_x", row);
float scale_y = point(1, "scale_y", row);
float slant_deg = point(1, "slant_deg", row);
float rotate_deg = point(1, "rotate_deg", row);
float lean = tan(radians(slant_deg));
float c = cos(radians(rotate_deg));
float s = sin(radians(rotate_deg));
matrix3 stretch = set(scale_x, 0.0, 0.0, 0.0, scale_y, 0.0, 0.0, 0.0, 1.0);
matrix3 shear = set(1.0, 0.0, 0.0, lean, 1.0, 0.0, 0.0, 0.0, 1.0);  // x += lean * y
matrix3 turn = set(c, s, 0.0, -s, c, 0.0, 0.0, 0.0, 1.0);  // counter-clockwise as seen
3@transform = stretch * shear * turn;
"""

STROKES = """\
// The pen's ways of this digit, centre of mass at the origin. along: where in its face a point
// is, which the pen's pressure follows.
int at = 0;
for (int line = 0; line < len(lengths); line++) {
    int prim = addprim(0, "polyline");
    setprimattrib(0, "face", prim, faces[line]);
    for (int k = 0; k < lengths[line]; k++) {
        int pt = addpoint(0, set(xs[at], ys[at], 0.0));
        addvertex(0, prim, pt);
        setpointattrib(0, "face", pt, faces[line]);
        setpointattrib(0, "along", pt, alongs[at]);
        at++;
    }
}
"""

OUTLINE = """\
// A glyph moved and scaled to what the table expects: centre of mass of its area at the origin,
// larger side BOX. By the shoelace formula: holes run the other way round and count as negative.
if (nprimitives(0) == 0)
    error("the Font node drew nothing for face %s: does Houdini read its file?", FACE);
float doubled = 0.0;
vector moment = {0.0, 0.0, 0.0};
for (int prim = 0; prim < nprimitives(0); prim++) {
    int n = primvertexcount(0, prim);
    for (int k = 0; k < n; k++) {
        vector a = point(0, "P", primpoint(0, prim, k));
        vector b = point(0, "P", primpoint(0, prim, (k + 1) % n));
        float strip = a.x * b.y - a.y * b.x;
        doubled += strip;
        moment += (a + b) * strip;
    }
    setprimattrib(0, "face", prim, FACE);
}
vector centre = moment / (3.0 * doubled);
vector extent = getbbox_size(0);
float side = max(extent.x, extent.y);
for (int pt = 0; pt < npoints(0); pt++) {
    vector p = point(0, "P", pt);
    setpointattrib(0, "P", pt, (p - centre) * (BOX / side));
    setpointattrib(0, "face", pt, FACE);
    setpointattrib(0, "along", pt, 0.0);
}
"""

WARP = """\
// How far a warp moves each point: a Gaussian field by random Fourier features (Rahimi & Recht
// 2007), root mean square warp_px, correlation exp(-r^2 / 2 warp_scale_px^2). And the pen's width
// here, as a factor: a few slow waves. Input 1: the rows.
int cell = i@cell;
int seed = point(1, "seed", cell);
float strength = point(1, "warp_px", cell);
float reach = point(1, "warp_scale_px", cell);
vector middle = point(1, "P", cell);
vector p = @P - middle;
vector shift = {0.0, 0.0, 0.0};
for (int axis = 0; axis < 2; axis++) {
    for (int k = 0; k < WAVES; k++) {
        vector key = set(float(seed), float(k), float(axis));
        vector u = rand(key);
        float wave = sqrt(-2.0 * log(1.0 - u.x)) / reach;  // Box and Muller: two normal numbers
        float angle = TAU * u.y;
        shift[axis] += cos(wave * (cos(angle) * p.x + sin(angle) * p.y) + TAU * u.z);
    }
}
v@shift = shift * strength * sqrt(2.0 / float(WAVES));

float pressure = 0.0;
for (int k = 0; k < 3; k++) {
    vector key = set(float(seed), float(k), 2.0);
    vector u = rand(key);
    pressure += cos(TAU * (3.0 * u.x * f@along / 50.0 + u.y));
}
f@pen = 1.0 + PRESSURE * sqrt(2.0 / 3.0) * pressure;
"""

PLACE = """\
// Warped, without moving the whole, then to its place in the cell. Input 1: the rows.
int cell = i@cell;
int count = findattribvalcount(0, "point", "cell", cell);
vector mean = {0.0, 0.0, 0.0};
for (int k = 0; k < count; k++) {
    vector shift = point(0, "shift", findattribval(0, "point", "cell", cell, k));
    mean += shift / float(count);
}
float x = point(1, "offset_x_px", cell);
float y = point(1, "offset_y_px", cell);
vector offset = set(x, -y, 0.0);  // y: the table's points down
@P += v@shift - mean + offset;
"""

SPRITES = """\
// Which cell a line belongs to, so that a pixel finds its own lines.
i@sprite = point(0, "cell", primpoint(0, @primnum, 0));
"""

SHEET = """\
// A point in the middle of each pixel and of a ring of pixels around the sheet: the rasterizer then
// samples exactly at points, whichever way it interpolates.
for (int line = 0; line < SIDE; line++)
    for (int column = 0; column < SIDE; column++)
        addpoint(0, set(float(column) - 0.5, 0.5 - float(line), 0.0));
for (int line = 1; line < SIDE; line++) {
    for (int column = 1; column < SIDE; column++) {
        int pt = line * SIDE + column;
        addprim(0, "poly", pt, pt - SIDE, pt - SIDE - 1, pt - 1);
    }
}
"""

INK = """\
// The share of each pixel that is inked: half a pixel of ramp on each side of an edge. Inputs: the
// sheet, the sprites' lines, the rows.
int line = @ptnum / SIDE - 1;
int column = @ptnum % SIDE - 1;
i@cell = -1;  // the ring
f@ink = 0.0;
if (line >= 0 && column >= 0 && line < CELL * GRID && column < CELL * GRID) {
    int cell = line / CELL * GRID + column / CELL;
    i@cell = cell;
    int filled = point(2, "filled", cell);
    float width = point(2, "stroke_px", cell);
    int count = findattribvalcount(1, "prim", "sprite", cell);
    if (count == 0) {
        string face = point(2, "face", cell);
        error("nothing was copied to cell %d: is there a piece whose face is %s?", cell, face);
    }
    float nearest = 1e6;
    float depth = -1e6;
    int odd = 0;
    for (int which = 0; which < count; which++) {
        int prim = findattribval(1, "prim", "sprite", cell, which);
        int n = primvertexcount(1, prim);
        int edges = filled ? n : n - 1;
        for (int k = 0; k < edges; k++) {
            int from = primpoint(1, prim, k);
            vector a = point(1, "P", from);
            vector b = point(1, "P", primpoint(1, prim, (k + 1) % n));
            vector u = b - a;
            vector w = @P - a;
            float t = clamp(dot(w, u) / max(dot(u, u), 1e-6), 0.0, 1.0);
            float away = length(w - u * t);
            if (filled) {
                nearest = min(nearest, away);
                if ((a.y > @P.y) != (b.y > @P.y) && w.x < u.x * w.y / u.y)
                    odd = 1 - odd;
            } else {
                float pen = point(1, "pen", from);
                depth = max(depth, 0.5 * width * pen - away);
            }
        }
    }
    if (filled)
        depth = (odd ? nearest : -nearest) + 0.5 * width;
    f@ink = clamp(depth + 0.5, 0.0, 1.0);
}
"""

LOOK = """\
// Blur within the cell (black beyond it), contrast, noise. Input 1: the rows.
float value = 0.0;
if (i@cell >= 0) {
    int line = @ptnum / SIDE - 1;
    int column = @ptnum % SIDE - 1;
    float sigma = point(1, "blur_px", i@cell);
    sigma = max(sigma, 1e-3);
    int reach = int(ceil(4.0 * sigma));
    float total = 0.0;
    for (int down = -reach; down <= reach; down++) {
        for (int right = -reach; right <= reach; right++) {
            float weight = exp(-0.5 * float(down * down + right * right) / (sigma * sigma));
            int y = line % CELL + down;
            int x = column % CELL + right;
            total += weight;
            if (x >= 0 && y >= 0 && x < CELL && y < CELL) {
                float ink = point(0, "ink", @ptnum + down * SIDE + right);
                value += weight * ink;
            }
        }
    }
    float contrast = point(1, "contrast", i@cell);
    float sigma_grain = point(1, "noise", i@cell);
    int seed = point(1, "seed", i@cell);
    vector key = set(float(seed), float(@ptnum), 3.0);
    vector u = rand(key);
    float grain = sqrt(-2.0 * log(1.0 - u.x)) * cos(TAU * u.y);
    value = clamp(pow(value / total, 1.0 / contrast) * (1.0 + sigma_grain * grain), 0.0, 1.0);
}
f@value = value;
@Cd = set(value, value, value);
"""


Constant = int | float | str | list[int] | list[float] | list[str]


def snippet(body: str, **constants: Constant) -> str:
    """The VEX with its constants declared before it, one a line, in the order given.

    Raises:
        ValueError: a string that VEX or Houdini's parameters would not take as it is.
    """
    return "".join(_declared(name, value) for name, value in constants.items()) + body


def _declared(name: str, value: object) -> str:
    if isinstance(value, list):
        inner = ", ".join(_literal(item) for item in value)
        return f"{_type(value[0])} {name}[] = {{{inner}}};\n"
    return f"{_type(value)} {name} = {_literal(value)};\n"


def _type(value: object) -> str:
    names: dict[type, str] = {int: "int", float: "float", str: "string"}
    return names[type(value)]


def _literal(value: object) -> str:
    if isinstance(value, str):
        if any(c in value for c in '"\\$`\n%'):
            raise ValueError(f"{value!r} cannot stand in a VEX string")
        return f'"{value}"'
    return f"{value:.6f}" if isinstance(value, float) else str(value)
