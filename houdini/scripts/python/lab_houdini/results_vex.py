"""The VEX of the results scene: cards, assets, and the images that the ONNX SOP takes.

The same rules as in `vex`: no `$` and no backtick, no operator between an int and a float. Paths of
files come from parameters of other nodes by `chs`, where Houdini has expanded them.
`tests/test_results_vex.py` compiles the snippets as C++ and holds them against Python.
"""

FILTER = """\
// What the panel asks for: a class, right or wrong ones, a range of confidence. -1: all.
int gone = f@confidence < LOWEST || f@confidence > HIGHEST;
if (CLASS >= 0 && i@pred != CLASS)
    gone = 1;
if (CORRECT >= 0 && i@correct != CORRECT)
    gone = 1;
if (gone)
    removepoint(0, @ptnum);
"""

CARDS = """\
// A square for each point, facing +z, with the point's image on it.
int count = npoints(0);
for (int pt = 0; pt < count; pt++) {
    vector middle = point(0, "P", pt);
    vector uv = point(0, "uv", pt);
    float side = point(0, "pscale", pt);
    int prim = addprim(0, "poly");
    for (int k = 0; k < 4; k++) {
        // From the lower left and clockwise as seen from the front, as Houdini winds its faces.
        float right = k == 2 || k == 3 ? 1.0 : 0.0;
        float up = k == 1 || k == 2 ? 1.0 : 0.0;
        vector corner = set(right - 0.5, up - 0.5, 0.0);
        vector texel = set(right / float(COLUMNS), up / float(ROWS), 0.0);
        int made = addpoint(0, middle + corner * side);
        addvertex(0, prim, made);
        setpointattrib(0, "uv", made, uv + texel);
        setpointattrib(0, "N", made, set(0.0, 0.0, 1.0));
        setpointattrib(0, "Cd", made, set(1.0, 1.0, 1.0));
    }
    int image = point(0, "image", pt);
    int label = point(0, "label", pt);
    int pred = point(0, "pred", pt);
    int correct = point(0, "correct", pt);
    float confidence = point(0, "confidence", pt);
    string class_name = point(0, "class_name", pt);
    setprimattrib(0, "image", prim, image);
    setprimattrib(0, "label", prim, label);
    setprimattrib(0, "pred", prim, pred);
    setprimattrib(0, "correct", prim, correct);
    setprimattrib(0, "confidence", prim, confidence);
    setprimattrib(0, "class_name", prim, class_name);
    removepoint(0, pt);
}
"""

STAND_IN = """\
// A prism to be replaced: wire a model of your own into the asset node instead.
for (int k = 0; k < SIDES; k++) {
    float angle = TAU * float(k) / float(SIDES);
    float x = cos(angle);
    float y = sin(angle);
    addpoint(0, set(x, y, -0.4));
    addpoint(0, set(x, y, 0.4));
}
int back = addprim(0, "poly");
int front = addprim(0, "poly");
for (int k = 0; k < SIDES; k++) {  // clockwise as seen from outside
    int next = (k + 1) % SIDES;
    addvertex(0, back, 2 * k);
    addvertex(0, front, 2 * (SIDES - 1 - k) + 1);
    addprim(0, "poly", 2 * k, 2 * k + 1, 2 * next + 1, 2 * next);
}
"""

ASSET = """\
// Whatever is wired in, as the asset of a class: centred, its longest side 1, marked with variant
// on points and primitives, whichever Copy to Points looks at.
if (npoints(0) == 0)
    error("nothing is wired into the asset of class %d", VARIANT);
vector size = getbbox_size(0);
vector centre = getbbox_center(0);
float side = max(max(size.x, size.y), max(size.z, 1e-9));
for (int pt = 0; pt < npoints(0); pt++) {
    vector p = point(0, "P", pt);
    setpointattrib(0, "P", pt, (p - centre) / side);
    setpointattrib(0, "variant", pt, VARIANT);
}
for (int prim = 0; prim < nprimitives(0); prim++)
    setprimattrib(0, "variant", prim, VARIANT);
"""

PIXELS = """\
// The images of this frame as points, a pixel each, row by row from the top left, image by image:
// the order in which the net wants its numbers. Frame 1 shows the first BATCH images.
string atlas = chs(ATLAS);
int page = clamp(int(rint(@Frame)), 1, PAGES) - 1;
int count = npoints(0);
for (int b = 0; b < BATCH; b++) {
    int which = clamp(page * BATCH + b, 0, COUNT - 1);  // the last page repeats the last image
    vector corner = point(0, "uv", which);
    float ink = point(0, "ink", which);
    float mean = 0.0;
    for (int row = 0; row < HEIGHT; row++) {
        for (int column = 0; column < WIDTH; column++) {
            // Row 0 is the top of the image and v = 0 the bottom of the atlas: v turns round here
            // and nowhere else.
            float u = corner.x + (float(column) + 0.5) / float(WIDTH * COLUMNS);
            float v = corner.y + (float(HEIGHT - 1 - row) + 0.5) / float(HEIGHT * ROWS);
            vector grey = rawcolormap(atlas, u, v, "srccolorspace", "linear");
            float x = float(column);
            float y = -float(row) - float(b * (HEIGHT + GAP));
            int made = addpoint(0, set(x, y, 0.0));
            setpointattrib(0, "mask", made, grey.x);
            setpointattrib(0, "Cd", made, set(grey.x, grey.x, grey.x));
            mean += grey.x / float(WIDTH * HEIGHT);
        }
    }
    if (abs(mean - ink) > 0.005)
        error("image %d of %s: mean grey %g, not %g. Its colour space was changed",
              which, atlas, mean, ink);
}
for (int pt = 0; pt < count; pt++)
    removepoint(0, pt);
"""

ANSWER = """\
// What the net says of the images of this frame: a bar a class, and a point that compares it with
// what was exported. Inputs: the ONNX node's points, the map.
int values = npoints(0);
int separate = BATCH * CLASSES + BATCH * EMBEDDING;
int shared = BATCH * (CLASSES > EMBEDDING ? CLASSES : EMBEDDING);
if (values != separate && values != shared)
    error("the ONNX node gave %d points, not %d or %d: press Setup Shapes from Model",
          values, separate, shared);
int page = clamp(int(rint(@Frame)), 1, PAGES) - 1;
for (int b = 0; b < BATCH; b++) {
    int which = clamp(page * BATCH + b, 0, COUNT - 1);
    int pred = point(1, "pred", which);
    int label = point(1, "label", which);
    int image = point(1, "image", which);
    float confidence = point(1, "confidence", which);
    float foot = -float(b * (HEIGHT + GAP) + HEIGHT - 1);
    float wide = float(WIDTH) / float(CLASSES);
    int best = 0;
    float most = -1.0;
    for (int k = 0; k < CLASSES; k++) {
        float p = point(0, "probs", b * CLASSES + k);
        if (p > most) {
            best = k;
            most = p;
        }
    }
    for (int k = 0; k < CLASSES; k++) {
        float p = point(0, "probs", b * CLASSES + k);
        vector colour = set(0.35, 0.35, 0.35);
        if (k == best)
            colour = best == label ? set(0.1, 0.6, 0.2) : set(0.8, 0.1, 0.1);
        int prim = addprim(0, "poly");
        for (int c = 0; c < 4; c++) {
            float right = c == 2 || c == 3 ? 0.9 : 0.1;
            float up = c == 1 || c == 2 ? 1.0 : 0.0;
            float x = float(WIDTH + GAP) + wide * (float(k) + right);
            float y = foot + up * p * float(HEIGHT - 1);
            int made = addpoint(0, set(x, y, 0.0));
            addvertex(0, prim, made);
            setpointattrib(0, "Cd", made, colour);
        }
        setprimattrib(0, "class", prim, k);
        setprimattrib(0, "probability", prim, p);
    }
    int agrees = best == pred && abs(most - confidence) < 0.005;
    int said = addpoint(0, set(-float(GAP), foot, 0.0));
    setpointattrib(0, "image", said, image);
    setpointattrib(0, "label", said, label);
    setpointattrib(0, "pred", said, best);
    setpointattrib(0, "confidence", said, most);
    setpointattrib(0, "agrees", said, agrees);
    if (!agrees)
        warning("image %d: class %d (%g) here, class %d (%g) in the export: is it this model?",
                image, best, most, pred, confidence);
}
for (int pt = 0; pt < values; pt++)
    removepoint(0, pt);
"""

CURVE = """\
// The embedding of each image of this frame as a curve, its largest value as high as the image.
// Input: the ONNX node's points. Whether its two outputs are points one after the other or the same
// points is not known [?]: both are read.
int values = npoints(0);
int start = values == BATCH * CLASSES + BATCH * EMBEDDING ? BATCH * CLASSES : 0;
for (int b = 0; b < BATCH; b++) {
    float most = 1e-9;
    for (int k = 0; k < EMBEDDING; k++) {
        float value = point(0, "embedding", start + b * EMBEDDING + k);
        most = max(most, abs(value));
    }
    int prim = addprim(0, "polyline");
    for (int k = 0; k < EMBEDDING; k++) {
        float value = point(0, "embedding", start + b * EMBEDDING + k);
        float x = float(2 * (WIDTH + GAP)) + float(WIDTH) * float(k) / float(EMBEDDING);
        float y = (value / most - 1.0) * float(HEIGHT - 1) - float(b * (HEIGHT + GAP));
        int made = addpoint(0, set(x, y, 0.0));
        addvertex(0, prim, made);
        setpointattrib(0, "embedding", made, value);
    }
}
for (int pt = 0; pt < values; pt++)
    removepoint(0, pt);
"""
