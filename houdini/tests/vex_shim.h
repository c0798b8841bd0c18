// Enough of VEX and of a few SOPs to run the scene's wrangles as C++, stricter than Houdini:
// an operator between an int and a float does not compile; reading an attribute that is missing,
// of another type or out of range throws. It shows that the snippets are sound and mean what the
// table says. It does not show that Houdini agrees.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

struct Float;
struct Int {
    int v;
    Int(int x = 0) : v(x) {}
    Int(double) = delete;
    explicit Int(Float x);
    explicit operator bool() const { return v != 0; }
    Int operator++(int) { return Int(v++); }
    Int operator-() const { return -v; }
};
struct Float {
    float v;
    Float(double x = 0.0) : v(float(x)) {}
    Float(int) = delete;
    explicit Float(Int x) : v(float(x.v)) {}
    Float operator-() const { return -v; }
    Float& operator+=(Float b) { v += b.v; return *this; }
    Float& operator/=(Float b) { v /= b.v; return *this; }
};
inline Int::Int(Float x) : v(int(x.v)) {}
#define BOTH(T, op, R) inline R operator op(T a, T b) { return R(a.v op b.v); }
#define ALL(T) BOTH(T, +, T) BOTH(T, -, T) BOTH(T, *, T) BOTH(T, /, T) BOTH(T, ==, Int) \
    BOTH(T, !=, Int) BOTH(T, <, Int) BOTH(T, >, Int) BOTH(T, <=, Int) BOTH(T, >=, Int)
ALL(Int) ALL(Float) BOTH(Int, %, Int)

struct Str {
    std::string v;
    Str(const char* x = "") : v(x) {}
    Str(std::string x) : v(x) {}
};
inline Int operator==(const Str& a, const Str& b) { return a.v == b.v; }

struct Vec {
    Float x, y, z;
    Vec(Float a = 0.0, Float b = 0.0, Float c = 0.0) : x(a), y(b), z(c) {}
    Float& operator[](Int i) { return i.v == 0 ? x : i.v == 1 ? y : z; }
    Vec& operator+=(const Vec& b) { x += b.x; y += b.y; z += b.z; return *this; }
};
inline Vec operator+(Vec a, const Vec& b) { return a += b; }
inline Vec operator-(const Vec& a, const Vec& b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
inline Vec operator*(const Vec& a, Float s) { return {a.x * s, a.y * s, a.z * s}; }
inline Vec operator/(const Vec& a, Float s) { return {a.x / s, a.y / s, a.z / s}; }

struct Mat3 { Float m[9]; };
inline Mat3 operator*(const Mat3& a, const Mat3& b) {
    Mat3 r;
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            for (int k = 0; k < 3; k++) r.m[3 * i + j] += a.m[3 * i + k] * b.m[3 * k + j];
    return r;
}
inline Vec operator*(const Vec& p, const Mat3& a) {  // a row times a matrix, as in VEX
    auto column = [&](int j) { return p.x * a.m[j] + p.y * a.m[3 + j] + p.z * a.m[6 + j]; };
    return {column(0), column(1), column(2)};
}
template <class T> struct Array : std::vector<T> {
    using std::vector<T>::vector;
    T& operator[](Int i) { return this->at(i.v); }
};
template <class T> Int len(const Array<T>& a) { return int(a.size()); }

inline Vec set(Float x, Float y, Float z) { return {x, y, z}; }
inline Mat3 set(Float a, Float b, Float c, Float d, Float e, Float f, Float g, Float h, Float i) {
    return {{a, b, c, d, e, f, g, h, i}};
}
#define MATH(vex, cpp) inline Float vex(Float x) { return cpp(x.v); }
MATH(sin, std::sin) MATH(cos, std::cos) MATH(tan, std::tan) MATH(sqrt, std::sqrt)
MATH(abs, std::fabs) MATH(exp, std::exp) MATH(log, std::log) MATH(ceil, std::ceil) MATH(rint, std::rint)
inline Float radians(Float x) { return x.v * M_PI / 180; }
inline Float pow(Float x, Float y) { return std::pow(x.v, y.v); }
inline Float max(Float a, Float b) { return a.v < b.v ? b : a; }
inline Float min(Float a, Float b) { return a.v < b.v ? a : b; }
inline Float clamp(Float x, Float a, Float b) { return min(max(x, a), b); }
inline Int clamp(Int x, Int a, Int b) { return x.v < a.v ? a : x.v > b.v ? b : x; }
inline Float dot(Vec a, Vec b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
inline Float length(Vec a) { return sqrt(dot(a, a)); }
inline Vec rand(Vec seed) {  // some hash of the bits; Houdini's is another
    float parts[3] = {seed.x.v, seed.y.v, seed.z.v};
    uint64_t h = 0;
    auto next = [&] {
        h += 0x9e3779b97f4a7c15;
        uint64_t z = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    };
    for (float part : parts) {
        uint32_t bits;
        std::memcpy(&bits, &part, 4);
        h = next() ^ bits;
    }
    auto uniform = [&] { return double(next() >> 40) / (1 << 24); };
    double x = uniform(), y = uniform(), z = uniform();
    return {x, y, z};
}
template <class... T> void error(const char* text, T...) { throw std::runtime_error(text); }
template <class... T> void warning(const char* text, T...) { std::cerr << "warning: " << text << "\n"; }

// Geometry: columns of attributes by type, for points and primitives.
template <class T> using Columns = std::map<std::string, std::vector<T>, std::less<>>;
struct Elements {
    size_t count = 0;
    std::map<std::string, std::map<int, std::vector<int>>> indices;  // of findattribval
    Columns<Int> i; Columns<Float> f; Columns<Str> s; Columns<Vec> v; Columns<Mat3> m;
    void of(Columns<Int>*& c) { c = &i; }
    void of(Columns<Float>*& c) { c = &f; }
    void of(Columns<Str>*& c) { c = &s; }
    void of(Columns<Vec>*& c) { c = &v; }
    void of(Columns<Mat3>*& c) { c = &m; }
    template <class T> T& write(const std::string& name, int n) {
        Columns<T>* columns;
        of(columns);
        auto& column = (*columns)[name];
        column.resize(count);
        return column.at(n);
    }
    template <class T> T& read(const char* name, int n) {
        Columns<T>* columns;
        of(columns);
        auto found = columns->find(name);
        if (found == columns->end()) throw std::runtime_error(std::string("no such attribute: ") + name);
        return found->second.at(n);
    }
    template <class F> void each(F f_) { f_(i); f_(f); f_(s); f_(v); f_(m); }
    int add(Elements* from = nullptr, int n = 0) {
        count++;
        each([&](auto& columns) { for (auto& c : columns) c.second.resize(count); });
        if (from) {
            copy(from->i, i, n); copy(from->f, f, n); copy(from->s, s, n); copy(from->v, v, n);
            copy(from->m, m, n);
        }
        return int(count) - 1;
    }
    void remove(const std::set<int>& gone) {
        each([&](auto& columns) {
            for (auto& c : columns)
                for (auto n = gone.rbegin(); n != gone.rend(); n++) c.second.erase(c.second.begin() + *n);
        });
        count -= gone.size();
    }
    template <class T> void copy(Columns<T>& from, Columns<T>& to, int n) {
        for (auto& c : from) {
            to[c.first].resize(count);
            to[c.first].back() = c.second.at(n);
        }
    }
};
struct Geo {
    Elements points, prims;
    std::vector<std::vector<int>> vertices;
    int add_prim(std::vector<int> pts) { vertices.push_back(pts); return prims.add(); }
};

Geo* inputs[4];  // as they were; a wrangle's changes show after it
Geo* result;
std::set<int> removed;  // points, when the wrangle is done
int elem;
bool over_prims;
Float Frame;
inline Elements& here() { return over_prims ? result->prims : result->points; }
inline Elements& there(Int n, bool prims) {
    if (!inputs[n.v]) throw std::runtime_error("nothing is wired to input " + std::to_string(n.v));
    return prims ? inputs[n.v]->prims : inputs[n.v]->points;
}

struct Read {  // its type follows from what it is assigned to, as in VEX
    Elements& from; const char* name; int n;
    operator Int() { return from.read<Int>(name, n); }
    operator Float() { return from.read<Float>(name, n); }
    operator Str() { return from.read<Str>(name, n); }
    operator Vec() { return from.read<Vec>(name, n); }
};
inline Read point(Int input, const char* name, Int n) { return {there(input, false), name, n.v}; }
inline Int npoints(Int input) { return int(there(input, false).count); }
inline Int nprimitives(Int input) { return int(there(input, true).count); }
inline Int primvertexcount(Int input, Int prim) { return int(inputs[input.v]->vertices.at(prim.v).size()); }
inline Int primpoint(Int input, Int prim, Int k) { return inputs[input.v]->vertices.at(prim.v).at(k.v); }
inline std::vector<int>& found(Int input, const char* kind, const char* name, Int value) {
    Elements& all = there(input, std::string(kind) == "prim");
    auto& index = all.indices[name];
    if (index.empty())
        for (size_t n = 0; n < all.count; n++)
            index[all.read<Int>(name, int(n)).v].push_back(int(n));
    return index[value.v];
}
inline Int findattribval(Int input, const char* kind, const char* name, Int value, Int which) {
    return found(input, kind, name, value).at(which.v);
}
inline Int findattribvalcount(Int input, const char* kind, const char* name, Int value) {
    return int(found(input, kind, name, value).size());
}
inline void bbox(Int input, Vec& low, Vec& high) {
    Elements& all = there(input, false);
    low = high = all.read<Vec>("P", 0);
    for (size_t n = 0; n < all.count; n++)
        for (int axis = 0; axis < 3; axis++) {
            Float p = all.read<Vec>("P", int(n))[axis];
            low[axis] = min(low[axis], p);
            high[axis] = max(high[axis], p);
        }
}
inline Vec getbbox_size(Int input) { Vec low, high; bbox(input, low, high); return high - low; }
inline Vec getbbox_center(Int input) { Vec low, high; bbox(input, low, high); return (low + high) / 2.0; }
inline void removepoint(Int, Int pt) { removed.insert(pt.v); }

std::map<std::string, std::string> strings;  // parameters of other nodes, expanded
inline Str chs(Str path) {
    if (!strings.count(path.v)) throw std::runtime_error("no such parameter: " + path.v);
    return strings[path.v];
}
inline Vec rawcolormap(Str file, Float u, Float v, const char* key, const char* value) {
    // A PGM beside the file; 8 bits as they are, v = 0 at the bottom, the pixel that (u, v) lies in.
    if (std::string(key) != "srccolorspace" || std::string(value) != "linear")
        throw std::runtime_error("greys would be decoded");
    static std::map<std::string, std::vector<unsigned char>> images;
    static std::map<std::string, std::pair<int, int>> sizes;
    if (!images.count(file.v)) {
        std::ifstream in(file.v.substr(0, file.v.rfind('.')) + ".pgm", std::ios::binary);
        std::string magic;
        int width, height, most;
        if (!(in >> magic >> width >> height >> most)) throw std::runtime_error("no image " + file.v);
        in.get();
        images[file.v].resize(size_t(width) * height);
        in.read(reinterpret_cast<char*>(images[file.v].data()), size_t(width) * height);
        sizes[file.v] = {width, height};
    }
    auto [width, height] = sizes[file.v];
    int column = int(std::floor(double(u.v) * width)), line = int(std::floor(double(v.v) * height));
    double grey = images[file.v].at(size_t(height - 1 - line) * width + column) / 255.0;
    return {grey, grey, grey};
}
inline Int addpoint(Int, Vec p) {
    int n = result->points.add();
    result->points.write<Vec>("P", n) = p;
    return n;
}
inline Int addprim(Int, Str) { return result->add_prim({}); }
template <class... P> Int addprim(Int, Str, P... pts) { return result->add_prim({pts.v...}); }
inline void addvertex(Int, Int prim, Int pt) { result->vertices.at(prim.v).push_back(pt.v); }
template <class T> void setpointattrib(Int, const char* name, Int n, T value) { result->points.write<T>(name, n.v) = value; }
template <class T> void setprimattrib(Int, const char* name, Int n, T value) { result->prims.write<T>(name, n.v) = value; }
inline void setpointattrib(Int, const char* name, Int n, double value) { result->points.write<Float>(name, n.v) = value; }

// SOPs.
inline Geo wrangle(void (*code)(), const char* over, std::vector<Geo*> wires) {
    Geo out = wires.empty() ? Geo() : *wires[0];
    out.points.indices.clear();
    out.prims.indices.clear();
    for (int k = 0; k < 4; k++) inputs[k] = k < int(wires.size()) ? wires[k] : nullptr;
    Geo nothing;
    if (!inputs[0]) inputs[0] = &nothing;
    result = &out;
    over_prims = std::string(over) == "primitive";
    elem = 0;
    if (std::string(over) == "detail") code();
    else for (int n = int(here().count); elem < n; elem++) code();
    if (!removed.empty()) {
        std::vector<int> moved(out.points.count);
        for (int n = 0, kept = 0; n < int(moved.size()); n++) moved[n] = removed.count(n) ? -1 : kept++;
        for (auto& prim : out.vertices)
            for (int& pt : prim)
                if ((pt = moved[pt]) < 0) throw std::runtime_error("a primitive lost a point");
        out.points.remove(removed);
        removed.clear();
    }
    return out;
}
inline void append(Geo& out, Geo& in, int prim, std::map<int, int>& moved) {
    std::vector<int> pts;
    for (int pt : in.vertices[prim]) {
        if (!moved.count(pt)) moved[pt] = out.points.add(&in.points, pt);
        pts.push_back(moved[pt]);
    }
    out.vertices.push_back(pts);
    out.prims.add(&in.prims, prim);
}
inline Geo merge(std::vector<Geo*> wires) {
    Geo out;
    for (Geo* in : wires) {
        int first = int(out.points.count);
        for (size_t pt = 0; pt < in->points.count; pt++) out.points.add(&in->points, int(pt));
        for (size_t prim = 0; prim < in->prims.count; prim++) {
            out.vertices.push_back(in->vertices[prim]);
            for (int& pt : out.vertices.back()) pt += first;
            out.prims.add(&in->prims, int(prim));
        }
    }
    return out;
}
template <class T> bool take(Columns<T>& from, Columns<T>& to, const std::string& name, int n, int m, size_t count) {
    auto found = from.find(name);
    if (found == from.end()) return false;
    to[name].resize(count);
    to[name].at(m) = found->second.at(n);
    return true;
}
// Unpacked, which is what packed copies show: each piece at its point, by transform or pscale.
inline Geo copytopoints(Geo& source, Geo& target, const char* piece, const char* apply) {
    Geo out;
    Elements &prims = source.prims, &points = target.points;
    for (int t = 0; t < int(points.count); t++) {
        std::map<int, int> moved;
        for (int prim = 0; prim < int(prims.count); prim++)
            if (prims.i.count(piece) ? prims.read<Int>(piece, prim).v == points.read<Int>(piece, t).v
                                     : prims.read<Str>(piece, prim).v == points.read<Str>(piece, t).v)
                append(out, source, prim, moved);
        for (auto& pair : moved) {
            Vec& p = out.points.write<Vec>("P", pair.second);
            p = points.m.count("transform") ? p * points.read<Mat3>("transform", t) : p * points.read<Float>("pscale", t);
            p += points.read<Vec>("P", t);
            std::istringstream names(apply);
            for (std::string name; names >> name;) {
                Elements& to = out.points;
                int m = pair.second;
                if (!take(points.i, to.i, name, t, m, to.count) && !take(points.f, to.f, name, t, m, to.count) &&
                    !take(points.s, to.s, name, t, m, to.count) && !take(points.v, to.v, name, t, m, to.count))
                    throw std::runtime_error("no such attribute: " + name);
            }
        }
    }
    return out;
}
inline Geo load(const std::string& path) {  // lines: count, attributes, then a primitive a line
    Geo out;
    std::ifstream file(path);
    std::string line;
    while (std::getline(file, line)) {
        std::istringstream words(line);
        std::string kind, name;
        words >> kind;
        auto fill = [&](auto read) { words >> name; for (size_t n = 0; n < out.points.count; n++) read(int(n)); };
        double x, y, z;
        if (kind == "points") words >> out.points.count;
        if (kind == "i") fill([&](int n) { words >> x; out.points.write<Int>(name, n) = int(x); });
        if (kind == "f") fill([&](int n) { words >> x; out.points.write<Float>(name, n) = x; });
        if (kind == "v") fill([&](int n) { words >> x >> y >> z; out.points.write<Vec>(name, n) = Vec(x, y, z); });
        if (kind == "s") {
            fill([&](int n) {
                std::string text;
                std::getline(words >> std::ws, text, '|');
                out.points.write<Str>(name, n) = Str(text);
            });
        }
        if (kind == "prim") {
            std::vector<int> pts;
            for (int pt; words >> pt;) pts.push_back(pt);
            out.add_prim(pts);
        }
    }
    return out;
}
inline void dump_vertices(std::ofstream& file, Geo& geo) {  // for each primitive: how many, which
    for (auto& prim : geo.vertices) {
        int count = int(prim.size());
        file.write(reinterpret_cast<const char*>(&count), 4);
        file.write(reinterpret_cast<const char*>(prim.data()), 4 * count);
    }
}
template <class T> void dump(std::ofstream& file, std::vector<T>& column) {
    for (T& value : column) file.write(reinterpret_cast<const char*>(&value), sizeof(T));
}
