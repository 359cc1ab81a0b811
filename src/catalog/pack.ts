/** Most keys of a row of `freshvec.change_pack`: a claim's worth, so that few packs are cut, on a page of its own size. */
export const PACK_KEYS = 200;
