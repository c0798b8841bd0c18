"""The node types and parameters that the scene uses, typed by hand, each with where it was read.

Tags: [doc] a SideFX page says so; [3p] read in a third-party repository; [?] unconfirmed. Nothing
here was run in Houdini. Sources:

    opparm   .cmd scene dumps by hscript's `opparm -V`, Houdini 20.5.370 and 21.0.440 [3p]:
             what Houdini itself wrote, with menu tokens
    ramen    unclepomedev/houdini_ramen, crates/houdini_ramen_{cop,cop2,sop,top,driver} [3p]:
             bindings generated from a Houdini by hython; parameters, kinds, menus by ordinal
    ox       justincrapse/ox_hom_framework, python3.11libs/ox/nodes [3p]: classes generated from
             a Houdini with Python 3.11 (20.5 or 21.0): parameters, menu tokens and ordinals, inputs
    doc      www.sidefx.com/docs/houdini/nodes/..., 20.5 and 21.0 [doc]: labels, not names
    seen     a line of Python in a public repository that sets it, quoted or described [3p]
    notes    this lab's notes on Houdini 20.5 and 21.0, gathered before [3p]
    hdk      www.sidefx.com/docs/hdk, the generated headers of the nodes' parameters [doc]: names,
             kinds and menu tokens
"""

from dataclasses import dataclass, field

INT, FLOAT, STRING, TOGGLE, BUTTON = "int", "float", "string", "toggle", "button"


@dataclass(frozen=True)
class Parm:
    """A parameter.

    Attributes:
        kind: int, float, string, toggle or button; or a tuple of menu tokens, in the menu's order
            as far as it is known.
        source: where its name was read, with a tag.
        size: components; 1 is a parameter without.
        after: the button that makes it, where it is not there from the start.
    """

    kind: str | tuple[str, ...]
    source: str
    size: int = 1
    after: str = ""


@dataclass(frozen=True)
class Type:
    """A node type.

    Attributes:
        source: where the type's name was read, with a tag.
        inputs: how many it takes; None: any number.
        parms: those the scene sets.
        children: category of what can be made inside it.
        comes_with: nodes that are inside it at once.
    """

    source: str
    inputs: int | None
    parms: dict[str, Parm] = field(default_factory=dict)
    children: str = ""
    comes_with: dict[str, str] = field(default_factory=dict)


WRANGLE_CLASS = ("detail", "primitive", "point", "vertex", "number")
NOTES = "notes [3p]"

CATALOGUE: dict[tuple[str, str], Type] = {
    ("Object", "geo"): Type(
        "seen: obj.createNode('geo') in many repositories [3p]",
        1,
        {
            "t": Parm(
                FLOAT, "notes; doc: objects have a tuple t of three (hou.ParmTuple) [doc]", 3
            ),
            "scale": Parm(FLOAT, "seen: obj.parm('scale').set(s), Uniform Scale [3p]"),
        },
        "Sop",
    ),
    ("Object", "copnet"): Type(
        "doc: copernicus/index, 'Create a COP Network node' in /obj [doc]; ox/geo_nodes [3p]",
        4,
        {
            "setres": Parm(TOGGLE, "ox/geo_nodes/copnet_node.py [3p]"),
            "res": Parm(INT, "ox: res1, res2; seen: copnet.parm('res1').set(resolution) [3p]", 2),
            "setprecision": Parm(TOGGLE, "ox/geo_nodes/copnet_node.py [3p]"),
            "precision": Parm(("b16", "b32"), "ox/geo_nodes/copnet_node.py [3p]"),
        },
        "Cop",
    ),
    ("Object", "topnet"): Type(
        "seen: hou.node('/obj').createNode('topnet', ...) [3p]",
        4,
        {"topscheduler": Parm(STRING, "seen: topnet.parm('topscheduler').set(sched.path()) [3p]")},
        "Top",
        {"localscheduler": "localscheduler"},  # [?]
    ),
    ("Sop", "python"): Type(
        "seen: geo.createNode('python') [3p]",
        4,
        {"python": Parm(STRING, "seen: python_sop.parm('python').set(python_sop_script) [3p]")},
    ),
    ("Sop", "null"): Type("opparm, 20.5.370 [3p]", 1),
    ("Sop", "merge"): Type("opparm, 20.5.370 [3p]", None),
    ("Sop", "object_merge"): Type(
        "opparm, 20.5.370 [3p]",
        0,
        {"objpath1": Parm(STRING, "opparm, 20.5.370: numobj ( 1 ) ... objpath1 ( ../ABCD/ ) [3p]")},
    ),
    ("Sop", "attribwrangle"): Type(
        "opparm, 20.5.370 and 21.0.440 [3p]",
        4,
        {
            "class": Parm(
                WRANGLE_CLASS,
                "opparm, 20.5.370: class ( detail ), ( primitive ), ( point ), ( vertex ) [3p]",
            ),
            "snippet": Parm(STRING, "opparm, 20.5.370 [3p]"),
        },
    ),
    ("Sop", "font"): Type(
        "opparm, 20.5.370 [3p]; doc: nodes/sop/font [doc]",
        0,
        {
            "type": Parm(("poly",), "opparm, 20.5.370: type ( poly ) [3p]"),
            "file": Parm(
                STRING,
                "opparm, 20.5.370: file ( 'Lato Bold' ) [3p]; doc: 'You can browse for a specific "
                "font file, if it is not listed' [doc]",
            ),
            "text": Parm(STRING, "opparm, 20.5.370 [3p]"),
            "fontsize": Parm(FLOAT, "opparm, 20.5.370: fontsize ( 1 ) [3p]"),
            "hole": Parm(
                TOGGLE,
                "opparm, 20.5.370: hole ( on ) [3p]; that off leaves contours apart, each the way "
                "round that the font has it [?]",
            ),
        },
    ),
    ("Sop", "copytopoints"): Type(
        "opparm, 20.5.370 and 21.0.440: copytopoints::2.0 [3p]",
        2,
        {
            "useidattrib": Parm(TOGGLE, "opparm, 21.0.440: useidattrib ( on ) [3p]"),
            "idattrib": Parm(
                STRING,
                "opparm, 21.0.440: idattrib ( type ) [3p]; hdk: an example's default is variant "
                "[doc]; whether the source's points or its primitives need it [?], so both have it",
            ),
            "pack": Parm(TOGGLE, "opparm, 20.5.370: pack ( off ) [3p]"),
            "transform": Parm(
                TOGGLE,
                "opparm, 20.5.370: transform ( on ) [3p]; doc: copy/instanceattrs, the point "
                "attribute transform, 3x3 or 4x4 [doc]",
            ),
            "targetattribs": Parm(INT, "opparm, 20.5.370: targetattribs ( 3 ) [3p]"),
            "useapply1": Parm(TOGGLE, "opparm, 20.5.370: useapply1 ( on ) [3p]"),
            "applyto1": Parm(("points",), "opparm, 20.5.370: applyto1 ( points ) [3p]"),
            "applymethod1": Parm(
                ("copy", "mult", "add"), "opparm, 20.5.370: applymethod1 ( copy ) and others [3p]"
            ),
            "applyattribs1": Parm(STRING, "opparm, 20.5.370: applyattribs1 ( *,^v,... ) [3p]"),
        },
    ),
    ("Sop", "file"): Type(
        "hdk: SOP_File.proto.h [doc]; seen: geo.createNode('file') [3p]",
        1,
        {"file": Parm(STRING, "hdk [doc]; seen: node.parm('file').set(path) [3p]")},
    ),
    ("Sop", "matnet"): Type("seen: obj_geo.createNode('matnet', 'materials') [3p]", 0, {}, "Vop"),
    ("Sop", "material"): Type(
        "seen: ctx.createNode('material') [3p]",
        1,
        {
            "shop_materialpath1": Parm(
                STRING, "seen: mat.parm('shop_materialpath1').set('../matnet/shader') [3p]"
            )
        },
    ),
    ("Sop", "onnx"): Type(
        "ramen sop/o.rs; seen: child_after(node, 'onnx') [3p]; doc: nodes/sop/onnx, 20.0 on [doc]",
        1,
        {
            "modelfile": Parm(STRING, "ramen; seen: n.parm('modelfile').set(path) [3p]"),
            "setupshapes": Parm(
                BUTTON,
                "ramen: a button; seen: node.parm('setupshapes').pressButton(), which alone reads "
                "the file, while reload before it crashed [3p]; doc: fills in inputs, outputs and "
                "shapes, -1 where dynamic [doc]",
            ),
            "input_type1": Parm(
                ("volume", "detail", "point", "prim"),
                "hdk: SOP_ONNX.proto.h, getToken(Input_type) [doc]; ramen: Volume 0, Detail 1, "
                "Point 2, Primitive 3 [3p]",
                after="setupshapes",
            ),
            "input_data1": Parm(
                STRING,
                "hdk: Inputs.input_data [doc]; a tutorial on this node: the float attribute mask "
                "of 28 x 28 points [3p]",
                after="setupshapes",
            ),
            **{
                f"output_type{number}": Parm(
                    ("volume", "detail", "point"),
                    "hdk: Outputs.output_type [doc]; ramen: Volume 0, Detail 1, Point 2 [3p]; the "
                    "tokens as for input_type [?]",
                    after="setupshapes",
                )
                for number in (1, 2)
            },
            **{
                f"output_data{number}": Parm(
                    STRING,
                    "hdk: Outputs.output_data [doc]; the tutorial: 10 points, a value each, around "
                    "the origin [3p]; where the points of a second output are [?]",
                    after="setupshapes",
                )
                for number in (1, 2)
            },
            "keepinput": Parm(TOGGLE, "ramen; seen: _try_set(n, 'keepinput', ...) [3p]"),
        },
    ),
    ("Vop", "principledshader"): Type(
        "opparm: Node bricks (Vop/principledshader::2.0), inside a matnet [3p]",
        None,
        {
            "basecolor": Parm(FLOAT, "opparm: basecolor ( 1 1 1 ) [3p]", 3),
            "basecolor_usePointColor": Parm(
                TOGGLE, "opparm: basecolor_usePointColor ( on ) [3p]; with a texture set to 0 [3p]"
            ),
            "basecolor_useTexture": Parm(TOGGLE, "seen: shader.parm(...).set(1) [3p]"),
            "basecolor_texture": Parm(STRING, "seen: shader.parm(...).set(png) [3p]"),
            "basecolor_textureColorSpace": Parm(
                ("linear", "sRGB"), "seen: parm(...).set('sRGB'), and 'linear' for roughness [3p]"
            ),
            "rough": Parm(FLOAT, "opparm: rough ( 1 ) [3p]"),
        },
    ),
    ("Cop", "sopimport"): Type(
        "ox/copnet_nodes/sopimport_node.py [3p]",
        0,
        {
            "usesoppath": Parm(TOGGLE, "ox/copnet_nodes/sopimport_node.py [3p]"),
            "soppath": Parm(STRING, "ox/copnet_nodes/sopimport_node.py [3p]"),
        },
    ),
    ("Cop", "rasterizesetup"): Type(
        "ox/copnet_nodes/rasterizesetup_node.py; ramen cop/r.rs [3p]; doc: nodes/cop [doc]",
        1,
        {
            "fit": Parm(
                ("none", "bbox", "refbox"),
                "ox; ramen: NoFitting 0, BoundingBox 1, ReferenceBox 2 [3p]; doc: the reference "
                "box keeps an animated source from being fitted anew each frame [doc]",
            ),
            "refsize": Parm(FLOAT, "ox: refsizex, y, z; ramen: Float3 [3p]", 3),
            "refpos": Parm(FLOAT, "ox: refposx, y, z; ramen: Float3 [3p]", 3),
            "targetpos": Parm(FLOAT, "ox: targetposx, y, z; ramen: Float3 [3p]", 3),
            "targetsize": Parm(
                FLOAT,
                "ox: targetsizex, y, z; ramen: Float3 [3p]; doc: a layer's camera sees -1 to 1, "
                "as the fit of UVs says [doc]",
                3,
            ),
            "doscale": Parm(TOGGLE, "ox [3p]; doc: Scale to Fit, uniform, else moved only [doc]"),
        },
    ),
    ("Cop", "rasterizegeo"): Type(
        "ox/copnet_nodes/rasterizegeo_node.py; ramen cop/r.rs [3p]",
        2,  # camera_ref, geometry
        {
            "attributes": Parm(INT, "ox; seen: raster.parm('attributes').set(n) [3p]"),
            "outtype1": Parm(
                ("float", "vector2", "vector3", "vector4", "int"),
                "ox; ramen: Mono 0, Uv 1, Rgb 2, Rgba 3, Id 4 [3p]",
            ),
            "name1": Parm(STRING, "ox; seen: raster.parm('name1') set to a point attribute [3p]"),
        },
    ),
    ("Cop", "rop_image"): Type(
        "seen: copnet.createNode('rop_image') [3p]; doc: nodes/cop/rop_image, 21.0, identical to "
        "the Image ROP [doc]; ramen's Driver image [3p]",
        1,
        {
            "coppath": Parm(STRING, "seen: rop.parm('coppath').set(f'../{node.name()}') [3p]"),
            "copoutput": Parm(STRING, "seen: rop.parm('copoutput').set(png_path) [3p]"),
            "mkpath": Parm(TOGGLE, "seen: set to 1 where it exists [3p]"),
            "trange": Parm(INT, "ramen: RenderFrameRange 1; seen: set(1) for a range [3p]"),
            "f": Parm(
                FLOAT, "seen: f1, f2, f3, whose $FSTART and $FEND are keys to delete first [3p]", 3
            ),
            "setres": Parm(TOGGLE, NOTES),
            "res": Parm(INT, "seen: rop.parmTuple('res').set((1024, 1024)) [3p]", 2),
            "colorconversion": Parm(
                ("ociocolorspace", "bakeocio", "raw"),
                "ramen: Raw 2; seen: cc_items.index('raw'), index('bakeocio') [3p]; the token of "
                "the first [?]",
            ),
            "size1": Parm(INT, "ramen: Automatic 0, 8-bit integer 1 [3p]; " + NOTES),
        },
    ),
    ("Top", "localscheduler"): Type("doc: nodes/top/localscheduler [doc]", 0),
    ("Top", "ropfetch"): Type(
        "seen: topnet.createNode('ropfetch') [3p]; doc: nodes/top/ropfetch [doc]",
        1,
        {
            "roppath": Parm(STRING, "seen: render.parm('roppath').set(karma.path()) [3p]"),
            "framegeneration": Parm(INT, "seen: set(1)  # Frame Range [3p]"),
            "range": Parm(
                FLOAT,
                "seen: karma.parmTuple('range').set((1, 3, 1)) after deleteAllKeyframes() [3p]",
                3,
            ),
            "batchall": Parm(TOGGLE, "seen: hou_node.parm('batchall').set(1) [3p]"),
        },
    ),
    ("Top", "waitforall"): Type(
        "seen: topnet.createNode('waitforall'), setInput(i, ...) for many i [3p]", None
    ),
    ("Top", "pythonscript"): Type(NOTES, 1, {"script": Parm(STRING, NOTES)}),
}

SCENE = {"/obj": "Object"}
"""Networks that every scene has, and what can be made in them."""
